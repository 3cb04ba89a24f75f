"""The picture of docs/masks.md: `python -m training.masked` edits a stroke drawing under several masks."""

from __future__ import annotations

import tempfile
from pathlib import Path

import click
import numpy as np
from PIL import Image, ImageDraw

from sdedit_cli.cli.main import run

from . import sheets

SCALE = 2
DRAWING = "house"
_ROOF = (0, 34, 32, 2, 63, 34)


def masks(size: int = 64) -> list[Image.Image]:
    """White alone; white on black; white on gray; all strengths from left to right."""
    made = [Image.new("L", (size, size), level) for level in (255, 0, 110)]
    for mask in made[1:]:
        ImageDraw.Draw(mask).polygon(_ROOF, fill=255)
    ramp = np.tile(np.linspace(0, 255, size).astype(np.uint8), (size, 1))
    return [*made, Image.fromarray(ramp)]


@click.command()
@click.option("--presets", type=click.Path(path_type=Path, exists=True), default=Path("presets"), show_default=True)
@click.option("--to", type=click.Path(path_type=Path), default=Path("docs/pictures/masks.png"), show_default=True)
def main(presets: Path, to: Path) -> None:
    """Write the sheet: masks above, what became of the drawing below."""
    drawing, preset = presets / "strokes" / f"{DRAWING}.png", presets / f"drawing-{DRAWING}.toml"
    with tempfile.TemporaryDirectory() as place:
        folder, below = Path(place), list[Image.Image]()
        for number, mask in enumerate(masks()):
            mask.save(folder / f"mask{number}.png")
            made = folder / f"made{number}.png"
            edit = ["run", str(drawing), "--preset", str(preset), "--strength", "0.8", "-o", str(made), "--quiet"]
            code = run([*edit, "--mask", str(folder / f"mask{number}.png")])
            if code:
                raise click.exceptions.Exit(code)
            below.append(Image.open(made))
        sheets.grid([masks(), below], to, SCALE)


if __name__ == "__main__":
    main()
