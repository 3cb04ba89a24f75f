"""From the declaration of an edit to the options of a command, and its help page."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

from ..options import GROUPS, Field, fields
from ..presets import ADAPTER_VARIABLES, user_config
from .folders import KINDS, Kind, adapter_folders
from .models import model_names
from .paths import FileName, ParamType

FILES = GROUPS[-1]
REPORTING = "Reporting"

F = TypeVar("F", bound=Callable[..., Any])


class Value(ParamType):
    """A value of an option of an edit: read and checked by its declaration, so that every source says the same."""

    def __init__(self, field: Field) -> None:
        self.field = field
        self.name = field.kind.name

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        read = self.field.parse_item if self.field.repeated else self.field.parse
        return read(value, self.field.flag) if isinstance(value, str) else value

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        words = _SUGGEST[self.field.name]() if self.field.name in _SUGGEST else self.field.option.spellings
        found = [CompletionItem(word) for word in words if word.lower().startswith(incomplete.lower())]
        return found if found or not self.field.option.path else [CompletionItem(incomplete, type="file")]


def _sampler_names() -> Sequence[str]:
    from ..noise.samplers import SAMPLERS

    # In one word each: shells split what they complete at spaces.
    return [name.lower().replace("++", "pp").replace(" ", "_") for name in SAMPLERS]


def _model_names() -> Sequence[str]:
    return model_names(user_config(os.environ).model_folders)


def _adapter_names(kind: str) -> Callable[[], Sequence[str]]:
    # Shells split what they complete at spaces.
    return lambda: [name for name in adapter_folders({}, user_config(os.environ))[kind].names() if " " not in name]


_SUGGEST: dict[str, Callable[[], Sequence[str]]] = {
    "sampler": _sampler_names,
    "model": _model_names,
    **{kind: _adapter_names(kind) for kind in KINDS},
}


class GroupedOption(click.Option):
    """An option that knows its heading on the help page."""

    def __init__(self, *args: Any, group: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.group = group


class GroupedCommand(click.Command):
    """A command whose help page lists the options under headings, in the order of their declaration."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows: dict[str, list[tuple[str, str]]] = {group: [] for group in GROUPS}
        for param in self.get_params(ctx):
            row = param.get_help_record(ctx) if isinstance(param, click.Option) else None
            if row is not None:
                rows.setdefault(getattr(param, "group", REPORTING), []).append(row)
        for heading, listed in rows.items():
            if listed:
                with formatter.section(heading):
                    formatter.write_dl(listed, col_max=26)


def option(*args: Any, group: str, **kwargs: Any) -> Callable[[F], F]:
    """click.option under a heading of the help page."""
    return click.option(*args, cls=GroupedOption, group=group, **kwargs)


def options(*given: Callable[[F], F]) -> Callable[[F], F]:
    """Several options in this order."""

    def decorate(function: F) -> F:
        for one in reversed(given):
            function = one(function)
        return function

    return decorate


def edit_options(**blanks: str) -> Callable[[F], F]:
    """Adds the options of an edit and those that name a picture of one, all 'not given' by default.

    `blanks`: what the absence of an option means to the command, where its declaration says otherwise.
    """
    declared = ((one, blanks.get(one.name, one.option.blank)) for one in fields())
    own = (field_option(replace(one, option=replace(one.option, blank=blank))) for one, blank in declared)
    text = "Take the settings that PICTURE was made with."
    like = option("--like", type=FileName(), metavar="PICTURE", group="Edit", help=text)
    return options(*own, adapter_dirs, like)


def adapter_dirs(command: F) -> F:
    """Adds the options that name folders of adapters."""
    return options(*map(_folder_option, KINDS.values()))(command)


def _folder_option(kind: Kind) -> Callable[[F], F]:
    text = f"Folder to look for {kind.word}s in by name, before those in ${ADAPTER_VARIABLES[kind.name]}."
    return option(kind.option, kind.parameter, multiple=True, type=FileName(), metavar="DIR", group="Model", help=text)


def field_option(field: Field) -> Callable[[F], F]:
    """The click option of a declared one; what is not given is None, or () of one that may be repeated."""
    spec = field.option
    names = ([spec.short] if spec.short else []) + [field.flag]
    shared: dict[str, Any] = {"group": spec.group, "help": help_line(field), "default": None}
    if field.is_switch:
        return option(f"{field.flag}/--no-{field.key}", field.name, **shared)
    metavar = spec.metavar or "|".join(spec.spellings) or field.kind.metavar
    return option(*names, field.name, type=Value(field), metavar=metavar, multiple=field.repeated, **shared)


def help_line(field: Field) -> str:
    """The help of an option with its range and default."""
    notes = [range_text(field), default_text(field)]
    shown = "; ".join(note for note in notes if note)
    return f"{field.option.help}  [{shown}]" if shown else field.option.help


def range_text(field: Field) -> str:
    """The bounds of a number, short."""
    low, high = field.option.low, field.option.high
    if low is None or high is None or high > 1000 or field.many:
        return ""
    return f"above {low:g} to {high:g}" if field.option.above else f"{low:g} to {high:g}"


def default_text(field: Field) -> str:
    """What holds when the option is not given, for people."""
    if field.option.blank:
        return f"default: {field.option.blank}"
    if field.is_switch:
        return "default: on" if field.default else ""
    if field.default in (None, "", ()):
        return ""
    return f"default: {field.default}"
