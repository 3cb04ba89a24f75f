"""What the command line takes as a path: anything but the name of nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from ..errors import UsageError
from ..options.values import named

if TYPE_CHECKING:
    ParamType = click.ParamType[Any]
else:
    ParamType = click.ParamType  # generic only in newer releases of click


class FileName(ParamType):
    """A file or a folder by its name, which the shell completes; whether it is there is not checked here."""

    name = "file"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return _named(self, value, param, ctx)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return [CompletionItem(incomplete, type="file")]


class FilePath(click.Path):
    """`click.Path`, but for the name of nothing, which is the current folder there."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return super().convert(_named(self, value, param, ctx), param, ctx)


def _named(kind: ParamType, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
    try:
        return named(value) if isinstance(value, str) else value
    except UsageError as problem:
        kind.fail(str(problem), param, ctx)
