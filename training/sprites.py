"""The picture of `--alpha edit` in docs/command-line.md: `python -m training.sprites` edits stroke drawings cut out of
their paper."""

from __future__ import annotations

import tempfile
from pathlib import Path

import click
import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from sdedit_cli.cli.main import run
from sdedit_cli.pictures.transparency import WHITE, seen

from . import sheets

SCALE = 2
DRAWINGS = ("apple", "mountain", "pig", "tree")
_SQUARE, _LIGHT, _DARK = 4, 235, 190
_CLEAR = 1


def cut_out(drawing: Image.Image) -> Image.Image:
    """A drawing on white paper without its paper: what is white and joined to a corner is clear, with soft edges."""
    marks = drawing.convert("RGB")
    ImageDraw.floodfill(marks, (0, 0), (_CLEAR, _CLEAR, _CLEAR))
    inside = Image.fromarray(np.where((np.asarray(marks) == _CLEAR).all(-1), 0, 255).astype(np.uint8))
    # Of a pixel at the edge, the paper is seen through what is inside of it.
    colours = seen(drawing, inside.filter(ImageFilter.MinFilter(3)), None)
    way, far = (np.subtract(WHITE, np.asarray(one, np.float32)) for one in (colours, drawing))
    share = np.clip((far * way).sum(-1) / np.maximum((way * way).sum(-1), 1), 0, 1)
    edge = np.asarray(inside.filter(ImageFilter.MinFilter(3))) == 0
    alpha = np.where(edge, np.asarray(inside) * share, 255).astype(np.uint8)
    colours.putalpha(Image.fromarray(alpha))
    return colours


def on_squares(sprite: Image.Image) -> Image.Image:
    """A picture with transparency, on the squares that stand for it in editors."""
    y, x = np.mgrid[: sprite.height, : sprite.width] // _SQUARE
    squares = Image.fromarray(np.where((x + y) % 2, _DARK, _LIGHT).astype(np.uint8)).convert("RGB")
    squares.paste(sprite, mask=sprite.getchannel("A"))
    return squares


@click.command()
@click.option("--presets", type=click.Path(path_type=Path, exists=True), default=Path("presets"), show_default=True)
@click.option("--to", type=click.Path(path_type=Path), default=Path("docs/pictures/alpha.png"), show_default=True)
def main(presets: Path, to: Path) -> None:
    """Write the sheet: sprites, what became of them with --alpha keep, and with --alpha edit."""
    rows: dict[str, list[Image.Image]] = {"input": [], "keep": [], "edit": []}
    with tempfile.TemporaryDirectory() as place:
        for name in DRAWINGS:
            sprite, preset = Path(place) / f"{name}.png", presets / f"drawing-{name}.toml"
            with Image.open(presets / "strokes" / f"{name}.png") as drawing:
                cut_out(drawing.convert("RGB")).save(sprite)
            rows["input"].append(on_squares(Image.open(sprite)))
            for way in ("keep", "edit"):
                made = sprite.with_name(f"{name}-{way}.png")
                words = ["--preset", str(preset), "--alpha", way, "--strength", "0.75", "-o", str(made), "--quiet"]
                if code := run(["run", str(sprite), *words]):
                    raise click.exceptions.Exit(code)
                rows[way].append(on_squares(Image.open(made)))
        sheets.grid(list(rows.values()), to, SCALE)


if __name__ == "__main__":
    main()
