"""README's picture: `python -m training.showcase` runs the preset of every stroke drawing with the built-in model."""

from __future__ import annotations

import tempfile
from pathlib import Path

import click
from PIL import Image

from sdedit_cli.cli.main import run

from . import sheets, strokes

SCALE = 2


@click.command()
@click.option("--presets", type=click.Path(path_type=Path, exists=True), default=Path("presets"), show_default=True)
@click.option("--to", type=click.Path(path_type=Path), default=Path("docs/pictures/drawings.png"), show_default=True)
def main(presets: Path, to: Path) -> None:
    """Write the sheet: drawings above, what became of them below."""
    drawings = [presets / "strokes" / f"{name}.png" for name in strokes.DRAWINGS]
    with tempfile.TemporaryDirectory() as folder:
        edits = [Path(folder) / path.name for path in drawings]
        for drawing, edit in zip(drawings, edits, strict=True):
            preset = presets / f"drawing-{drawing.stem}.toml"
            code = run(["run", str(drawing), "--preset", str(preset), "-o", str(edit), "--quiet"])
            if code:
                raise click.exceptions.Exit(code)
        sheets.grid([[Image.open(path).convert("RGB") for path in row] for row in (drawings, edits)], to, SCALE)


if __name__ == "__main__":
    main()
