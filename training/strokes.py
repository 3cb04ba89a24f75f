"""The stroke drawings: `python -m training.strokes` puts them and their presets into presets/. No training sees them.

Each is a few plain shapes, as somebody draws them with a mouse, in coordinates of 0..100; the concept that it stands
for is the one that its own preset asks for. Evaluation crosses all drawings with all concepts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click
from PIL import Image, ImageDraw

from .words import with_article

OVERSAMPLING = 8
PRESET = """\
#:schema schema.json
description = "strokes/{name}.png becomes {concept}, with the built-in model."
prompt = "3d emoji of {concept}"
strength = 0.6
cfg-scale = 4.0
steps = 25
seed = {seed}
"""


@dataclass(frozen=True)
class Shape:
    """`kind` is a method of ImageDraw; `points` are its coordinates, `x0, y0, x1, y1, ...`."""

    kind: str
    points: tuple[float, ...]
    colour: str
    width: float = 0.0


@dataclass(frozen=True)
class Drawing:
    """`seed` is that of the preset: of the first eight, the one whose edit is best to look at."""

    concept: str
    shapes: tuple[Shape, ...]
    seed: int = 0


def disc(x: float, y: float, rx: float, ry: float, colour: str) -> Shape:
    return Shape("ellipse", (x - rx, y - ry, x + rx, y + ry), colour)


def box(x0: float, y0: float, x1: float, y1: float, colour: str) -> Shape:
    return Shape("rectangle", (x0, y0, x1, y1), colour)


def polygon(points: Sequence[float], colour: str) -> Shape:
    return Shape("polygon", tuple(points), colour)


def line(points: Sequence[float], colour: str, width: float) -> Shape:
    return Shape("line", tuple(points), colour, width)


DRAWINGS = {
    "apple": Drawing(
        "red apple",
        (disc(38, 60, 27, 30, "#d8232a"), disc(62, 60, 27, 30, "#d8232a"), line((50, 34, 55, 12), "#5a3a22", 6)),
        seed=1,
    ),
    "tree": Drawing(
        "deciduous tree",
        (
            box(43, 55, 57, 94, "#7a4a25"),
            disc(50, 30, 26, 24, "#3f9a35"),
            disc(30, 46, 20, 18, "#3f9a35"),
            disc(70, 46, 20, 18, "#3f9a35"),
        ),
    ),
    "tiger": Drawing(
        "tiger face",
        (
            disc(24, 24, 14, 14, "#f08c1e"),
            disc(76, 24, 14, 14, "#f08c1e"),
            disc(50, 54, 41, 38, "#f59a2c"),
            disc(50, 72, 20, 14, "#fff3e0"),
            line((50, 18, 50, 34), "#3a2a20", 5),
            line((12, 52, 26, 55), "#3a2a20", 5),
            line((88, 52, 74, 55), "#3a2a20", 5),
        ),
        seed=1,
    ),
    "pig": Drawing(
        "pig face",
        (
            polygon((14, 12, 38, 22, 18, 40), "#f28fb0"),
            polygon((86, 12, 62, 22, 82, 40), "#f28fb0"),
            disc(50, 54, 40, 38, "#f9a8c4"),
            disc(50, 64, 17, 12, "#ea7fa5"),
        ),
        seed=5,
    ),
    "mountain": Drawing(
        "mountain",
        (
            polygon((4, 90, 40, 22, 66, 90), "#7d6a5c"),
            polygon((40, 90, 70, 42, 97, 90), "#6a594d"),
            polygon((40, 22, 31, 40, 50, 42), "#f4f6f8"),
        ),
        seed=2,
    ),
    "bus": Drawing(
        "bus",
        (
            box(8, 26, 92, 76, "#eeb023"),
            box(14, 34, 86, 52, "#a9d7ee"),
            disc(28, 78, 10, 10, "#2b2b2b"),
            disc(72, 78, 10, 10, "#2b2b2b"),
        ),
        seed=4,
    ),
    "grin": Drawing(
        "grinning face",
        (
            disc(50, 50, 43, 43, "#fcd02f"),
            disc(35, 40, 5, 8, "#4a3010"),
            disc(65, 40, 5, 8, "#4a3010"),
            line((28, 62, 40, 72, 60, 72, 72, 62), "#4a3010", 5),
        ),
        seed=5,
    ),
    "house": Drawing(
        "house",
        (
            box(20, 46, 80, 92, "#ead2a0"),
            polygon((8, 50, 50, 10, 92, 50), "#c23b2c"),
            box(42, 64, 58, 92, "#7a4a25"),
        ),
        seed=6,
    ),
}


def draw(drawing: Drawing, size: int) -> Image.Image:
    """The drawing on white, RGB, `size` pixels on a side."""
    side = size * OVERSAMPLING
    canvas = Image.new("RGB", (side, side), "white")
    pen = ImageDraw.Draw(canvas)
    for shape in drawing.shapes:
        points = [value * side / 100 for value in shape.points]
        if shape.kind == "line":
            pen.line(points, fill=shape.colour, width=round(shape.width * side / 100), joint="curve")
        else:
            getattr(pen, shape.kind)(points, fill=shape.colour)
    return canvas.resize((size, size), Image.Resampling.BOX)


def preset(name: str, drawing: Drawing) -> str:
    """The preset that turns a drawing into what it stands for, with the built-in model."""
    return PRESET.format(name=name, concept=with_article(drawing.concept), seed=drawing.seed)


@click.command()
@click.option("--size", type=int, default=64, show_default=True, help="Pixels on a side.")
@click.option("--to", type=click.Path(path_type=Path), default=Path("presets"), show_default=True)
def main(size: int, to: Path) -> None:
    """Draw the stroke drawings as PNG files, and write a preset for each."""
    (to / "strokes").mkdir(parents=True, exist_ok=True)
    for name, drawing in DRAWINGS.items():
        draw(drawing, size).save(to / "strokes" / f"{name}.png", optimize=True)
        (to / f"drawing-{name}.toml").write_text(preset(name, drawing), encoding="utf-8")


if __name__ == "__main__":
    main()
