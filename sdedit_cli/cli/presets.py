"""`sdedit presets`: the presets by name, and the drawings that some of them are for."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import click

from ..errors import OutputError, PresetError
from ..presets import (
    COMMANDS,
    NOTES,
    config_path,
    load_preset,
    own_folder,
    preset_paths,
    shipped_folder,
    user_config,
)
from ..signals import settle
from .file_commands import Answer
from .paths import FilePath
from .preset_tables import check_tables
from .render import plain

SCHEMA = "sdedit.presets/1"
SHIPPED = "comes with sdedit"


@click.command("presets", cls=Answer, short_help="List the presets.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a preset on stdout.")
@click.option(
    "--strokes",
    type=FilePath(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Write the stroke drawings that come with sdedit into DIR; 'sdedit run DIR/apple.png --preset drawing-apple'.",
)
def command(as_json: bool, strokes: Path | None) -> None:
    """List the presets that --preset takes: what each is for, what it sets, and where it is from.

    Those of the preset folders of the user config come first, and hide others of their name; --save-preset NAME of
    'sdedit run' and 'sdedit batch' writes one there.
    """
    if strokes is not None:
        for path in write_strokes(strokes):
            click.echo(json.dumps({"schema": SCHEMA, "drawing": str(path)}) if as_json else str(path))
        return
    for preset in listed():
        click.echo(json.dumps({"schema": SCHEMA, **preset}) if as_json else _text(preset))
    if not as_json:
        click.echo()
        click.echo(plain(f"Your own go into {own_folder(config_path(os.environ))}, by --save-preset or by hand."))


def listed() -> Iterator[dict[str, Any]]:
    """Every preset: name, description, place, and what it sets; `error` in their place where it cannot be used."""
    shipped, folders = shipped_folder(), user_config(os.environ).preset_folders
    for name, (path, *hidden) in sorted(preset_paths(folders).items()):
        place = {"from": SHIPPED if path.parent == shipped else str(path)}
        hides = {"hides": [SHIPPED if other.parent == shipped else str(other) for other in hidden]} if hidden else {}
        try:
            preset = load_preset(name, folders)
            check_tables([preset])
        except PresetError as problem:
            yield {"name": name, "error": str(problem), **place, **hides}
            continue
        settings = {key: value for key, value in preset.own.items() if key not in NOTES}
        extends = {"extends": list(preset.extends)} if preset.extends else {}
        told: dict[str, Any] = {"name": name, "description": preset.description}
        yield {**told, **place, **hides, **extends, "settings": settings}


def _text(preset: dict[str, Any]) -> str:
    place = [] if preset["from"] == SHIPPED else [preset["from"]]
    place += [f"hides one that {other}" if other == SHIPPED else f"hides {other}" for other in preset.get("hides", ())]
    if "error" in preset:
        return _indented([f"{preset['name']}  ({preset['error']})", *place])
    settings = ", ".join(_settings(preset["settings"]))
    begins = f"begins with {', '.join(preset['extends'])}" if "extends" in preset else ""
    says = "; ".join(part for part in (begins, settings) if part)
    return _indented([preset["name"], preset["description"], says, *place])


def _indented(lines: Sequence[str]) -> str:
    return "\n    ".join(plain(line) for line in lines if line)


def _settings(table: dict[str, Any], label: str = "") -> Iterator[str]:
    for key, value in table.items():
        if isinstance(value, dict) and key in COMMANDS:
            yield from _settings(cast("dict[str, Any]", value), f"{key} --")
        else:
            yield f"{label}{key} {value}"


def write_strokes(folder: Path) -> Iterator[Path]:
    """Writes the drawings that ship into `folder`. Raises OutputError; a file that is there already stays."""
    from ..disk.checks import check_folder
    from ..disk.whole import write_bytes

    check_folder(folder, "--strokes")
    drawings = sorted((shipped_folder() / "strokes").glob("*.png"))
    there = next((folder / path.name for path in drawings if (folder / path.name).exists()), None)
    if there is not None:
        raise OutputError(f"{there}: exists already; name another folder for --strokes")
    for path in drawings:
        target = folder / path.name
        write_bytes(target, path.read_bytes(), placed=settle if path == drawings[-1] else None)
        yield target
