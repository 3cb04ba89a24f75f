"""The text of a preset's file, made of values."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from ..options import Field, Layer, fields


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of a preset: an option's key, its value, and what the option is for."""

    key: str
    value: Any
    help: str


def preset_text(layer: Layer, extends: Sequence[str], commands: Mapping[str, Sequence[Entry]]) -> str:
    """The TOML of a preset that means this layer on those that it extends, each option below what it is for.

    `commands` are the options of its tables. `load_preset` reads it back.
    """
    options = [
        Entry(field.key, _told(field, layer.values[field.name]), field.option.help)
        for field in fields()
        if field.name in layer.values
    ]
    lines = ["# What this is for, as 'sdedit presets' shows it.", 'description = ""']
    if extends:
        named = extends[0] if len(extends) == 1 else list(extends)
        lines += ["", "# The presets that this one begins with; later ones win.", f"extends = {_toml(named)}"]
    lines += _lines(options)
    for command, entries in commands.items():
        if entries:
            lines += ["", f"# Options of 'sdedit {command}' alone.", f"[{command}]", *_lines(entries)]
    return "\n".join(lines) + "\n"


def _lines(entries: Sequence[Entry]) -> list[str]:
    return [line for entry in entries for line in ("", f"# {entry.help}", f"{entry.key} = {_toml(entry.value)}")]


def _told(field: Field, value: Any) -> Any:
    """A value as a person would write it, where that says all of it; else every member of it."""
    items = value if field.many else (value,)
    told = [str(item) if _says_all(field, item) else field.kind.dump(item) for item in items]
    return told if field.many else told[0]


def _says_all(field: Field, item: Any) -> bool:
    return not isinstance(item, (bool, int, float)) and field.kind.fit(str(item)) == item


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        # JSON escapes what TOML wants escaped, but for one character.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007F")
    if isinstance(value, dict):
        members = cast("dict[str, Any]", value).items()
        return "{ " + ", ".join(f"{key} = {_toml(item)}" for key, item in members) + " }"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_toml, cast("Sequence[Any]", value))) + "]"
    return repr(value)
