"""What the commands of `sdedit embed` share: options, and writing a file that must be new."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from ...disk.checks import refuse_existing
from ...disk.leftovers import clear_leftovers
from ...errors import ModelError, shortened
from ..folders import AdapterPath
from ..models import check_readable, is_there
from ..render import plain

PATH: Any = click.Path(path_type=Path, readable=False)
ADAPTER: Any = AdapterPath("embedding")
LAYOUTS = ("a1111", "diffusers", "kohya")
DEBUG = click.option("--debug", is_flag=True, expose_value=False, help="Show tracebacks.")
TO = click.option(
    "--to",
    type=click.Choice(LAYOUTS),
    help="Layout of the file.  [default: a1111 for .pt, diffusers for .safetensors and .bin]",
)


def options(*added: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """All of these options, in their order."""

    def add(function: Any) -> Any:
        for one in reversed(added):
            function = one(function)
        return function

    return add


def check_source(path: Path) -> None:
    """Raises ModelError for a file that is not there or cannot be read."""
    if not is_there(path, str(path)):
        raise ModelError(f"{shortened(path)}: no such file or folder")
    check_readable(path, str(path))


def check_target(path: Path) -> None:
    """Raises OutputError for a file that exists already; what a killed run left beside it is removed, and told."""
    refuse_existing(path)
    for name in clear_leftovers(path.absolute().parent):
        click.echo(f"sdedit: warning: removed {plain(name)}, which a run that was killed left unfinished", err=True)
