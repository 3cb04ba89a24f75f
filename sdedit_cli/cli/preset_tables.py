"""The tables of presets: the options of one command beside those of an edit, as that command declares them."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any, cast

import click

from ..errors import PresetError, did_you_mean, quoted, shown
from ..options import MAX_ITEMS, fields
from ..presets import Preset
from .flags import REPORTING

# What names layers, is another on each machine, or has files replaced or removed: that is asked for where it is done.
_NOT_SAVED = {
    *("presets", "like", "save_preset", "shard", "engine", "address", "workers"),
    *("on_exists", "force", "prune"),
}


def own_options(command: click.Command) -> dict[str, click.Option]:
    """The options of a command that a table of presets may set, by key."""
    edit = {field.name for field in fields()}
    return {
        key: param
        for key, param in _options(command).items()
        if param.name not in edit | _NOT_SAVED and getattr(param, "group", REPORTING) != REPORTING
    }


def _options(command: click.Command) -> dict[str, click.Option]:
    return {max(param.opts, key=len).lstrip("-"): param for param in command.params if isinstance(param, click.Option)}


def command_named(name: str) -> click.Command:
    """One of the commands that take presets."""
    return import_module(f"{__package__}.{name}").command


def check_tables(presets: Sequence[Preset]) -> None:
    """Raises PresetError for what no command has as an option, or not with such a value."""
    for preset in presets:
        for name in preset.commands:
            _fitted(preset, name)


def table_defaults(name: str, presets: Sequence[Preset]) -> dict[str, Any]:
    """The values that the presets' tables have for a command, by parameter, later ones winning. Raises PresetError."""
    check_tables(presets)
    found: dict[str, Any] = {}
    for preset in presets:
        found |= _fitted(preset, name)
    return found


def _fitted(preset: Preset, name: str) -> dict[str, Any]:
    known = own_options(command_named(name))
    found: dict[str, Any] = {}
    for key, value in preset.commands.get(name, {}).items():
        place = f"preset {preset.name}: [{name}] {shown(key)}"
        if key not in known:
            raise PresetError(f"{place}: {_unknown(key, name)}")
        param = known[key]
        _check(param, value, place)
        found[str(param.name)] = value
    return found


def _unknown(key: str, name: str) -> str:
    command = command_named(name)
    if key.replace("-", "_") in {field.name for field in fields()}:
        return "is an option of an edit; write it above the tables"
    if key in _options(command):
        return "is for the command line alone"
    return f"no option of 'sdedit {name}' alone is called so{did_you_mean(key, list(own_options(command)))}"


def _check(param: click.Option, value: object, place: str) -> None:
    """Raises PresetError for a value that the option does not take."""
    if param.is_flag:
        if not isinstance(value, bool):
            raise PresetError(f"{place} is {quoted(value)}; expected true or false")
        return
    number = isinstance(param.type, click.IntRange)
    for item in _items(value, place) if param.multiple else [value]:
        if not isinstance(item, int if number else (str, int)) or isinstance(item, bool):
            raise PresetError(f"{place} is {quoted(item)}; expected {'a whole number' if number else 'text'}")
        try:
            param.type.convert(item if number else str(item), param, None)
        except click.BadParameter as problem:
            raise PresetError(f"{place}: {problem.message}") from None


def _items(value: object, place: str) -> list[object]:
    items = cast("list[object]", value) if isinstance(value, list) else None
    if items is None or len(items) > MAX_ITEMS:
        raise PresetError(f"{place} is {quoted(cast(object, value))}; expected a list of at most {MAX_ITEMS} texts")
    return items


def table_schema(command: click.Command) -> dict[str, Any]:
    """The JSON schema of a command's table."""
    properties = {key: _schema(param) for key, param in own_options(command).items()}
    return {"type": "object", "additionalProperties": False, "properties": properties}


def _schema(param: click.Option) -> dict[str, Any]:
    one: dict[str, Any] = {"type": "string"}
    if param.is_flag:
        one = {"type": "boolean"}
    elif isinstance(param.type, click.IntRange):
        one = {"type": "integer", "minimum": param.type.min}
    elif isinstance(param.type, click.Choice):
        one = {"enum": list(cast("Sequence[str]", param.type.choices))}
    elif param.name == "batch_size":
        one = {"anyOf": [{"enum": ["auto"]}, {"type": "integer", "minimum": 1}]}
    whole = {"type": "array", "items": one, "maxItems": MAX_ITEMS} if param.multiple else one
    return whole | {"description": param.help or ""}
