"""`sdedit presets`: the presets by name, and the drawings that some of them are for."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from ..batch.events import ReaderGone
from ..errors import OutputError, PresetError
from ..presets import description, preset_paths, read_toml, shipped_folder, user_config
from .render import plain

SCHEMA = "sdedit.presets/1"
SHIPPED = "comes with sdedit"


@click.command("presets", short_help="List the presets.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a preset on stdout.")
@click.option(
    "--strokes",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Write the stroke drawings that come with sdedit into DIR; 'sdedit run DIR/apple.png --preset drawing-apple'.",
)
def command(as_json: bool, strokes: Path | None) -> None:
    """List the presets that --preset takes: what each is for, what it sets, and where it is from.

    Those of the preset folders of the user config come first, and hide others of their name.
    """
    try:
        if strokes is not None:
            for path in write_strokes(strokes):
                click.echo(json.dumps({"schema": SCHEMA, "drawing": str(path)}) if as_json else str(path))
            return
        for preset in listed():
            click.echo(json.dumps({"schema": SCHEMA, **preset}) if as_json else plain(_text(preset)))
    except BrokenPipeError:
        raise ReaderGone from None


def listed() -> Iterator[dict[str, Any]]:
    """Every preset: name, description, place, and what it sets; `error` in their place where it cannot be read."""
    shipped = shipped_folder()
    for name, path in sorted(preset_paths(user_config(os.environ).preset_folders).items()):
        place = SHIPPED if path.parent == shipped else str(path)
        try:
            table = read_toml(path)
            yield {"name": name, "description": description(table, path), "from": place, "settings": table}
        except PresetError as problem:
            yield {"name": name, "error": str(problem), "from": place}


def _text(preset: dict[str, Any]) -> str:
    if "error" in preset:
        return f"{preset['name']}  ({preset['error']})"
    settings = ", ".join(f"{key} {value}" for key, value in preset["settings"].items())
    place = "" if preset["from"] == SHIPPED else f"\n    {preset['from']}"
    return f"{preset['name']}\n    {preset['description']}\n    {settings}{place}"


def write_strokes(folder: Path) -> Iterator[Path]:
    """Writes the drawings that ship into `folder`. Raises OutputError; a file that is there already stays."""
    from ..disk.checks import check_folder
    from ..disk.whole import write_bytes

    check_folder(folder)
    drawings = sorted((shipped_folder() / "strokes").glob("*.png"))
    there = next((folder / path.name for path in drawings if (folder / path.name).exists()), None)
    if there is not None:
        raise OutputError(f"{there}: exists already; name another folder for --strokes")
    for path in drawings:
        target = folder / path.name
        write_bytes(target, path.read_bytes())
        yield target
