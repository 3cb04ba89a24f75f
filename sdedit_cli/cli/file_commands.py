"""What commands beside `run` and `batch` share: answers on stdout, and of those on single files options and checks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ..batch.events import ReaderGone
from ..disk.checks import refuse_existing
from ..disk.leftovers import clear_leftovers
from ..errors import ModelError, shortened
from .models import check_readable, is_there
from .paths import FilePath
from .render import plain

PATH: Any = FilePath(path_type=Path, readable=False)
DEBUG = click.option("--debug", is_flag=True, expose_value=False, help="Show tracebacks.")


class Answer(click.Command):
    """A command whose answer is what it prints: it ends where the reader of that goes away."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise ReaderGone from None


def check_source(path: Path) -> None:
    """Raises ModelError for a file or folder that is not there or cannot be read."""
    if not is_there(path, str(path)):
        raise ModelError(f"{shortened(path)}: no such file or folder")
    check_readable(path, str(path))


def check_target(path: Path) -> None:
    """Raises OutputError for what exists already; what a killed run left beside it is removed, and told."""
    refuse_existing(path)
    clear_beside(path)


def clear_beside(target: Path) -> None:
    """Removes what killed runs left in the folder of a target, and says so."""
    for name in clear_leftovers(target.absolute().parent):
        click.echo(f"sdedit: warning: removed {plain(name)}, which a run that was killed left unfinished", err=True)
