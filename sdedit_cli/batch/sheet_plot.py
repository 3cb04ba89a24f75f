"""How far from its input each strength takes a picture: the faithfulness of the SDEdit paper, drawn beside a sheet.

The paper (arXiv 2108.01073, section 5 and figure 3) plots it against realism, which it measures as the KID of thousands
of pictures against a set of real ones. There is no such set here, and no measure of realism of one picture by itself
that would not be a guess; so the plot shows what can be measured.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .sheet import INK, LINE, PAPER, SOFT, TEXT, cut, font, width_of

if TYPE_CHECKING:
    from PIL import Image, ImageDraw

_SIZE = (380, 320)
_LEFT, _TOP, _RIGHT, _BOTTOM = 52, 34, 12, 58
_COLOURS = ("#2456c7", "#c2571a", "#1d6b3a", "#8a2be2", "#b3261e", "#6b5d00", "#007c89", "#555555")
_MOST_NAMED = 4


@dataclass(frozen=True, slots=True)
class Line:
    """The pictures that differ in strength alone: what they have in common, and (strength, distance) of each."""

    name: str
    points: Sequence[tuple[float, float]]


def distance(made: Image.Image, before: Image.Image) -> float:
    """The L2 distance of two pictures of one size per number in them: the root of their mean square difference, of
    0..1."""
    from PIL import ImageChops, ImageStat

    squares = [value * value for value in ImageStat.Stat(ImageChops.difference(made, before)).rms]
    return math.sqrt(sum(squares) / len(squares)) / 255


def plotted(lines: Sequence[Line]) -> Image.Image:
    """The distances by strength as a picture, a line for each of `lines`."""
    from PIL import Image as Pillow
    from PIL import ImageDraw

    named = [line for line in lines if line.name][:_MOST_NAMED]
    more = len(lines) - len(named) if named else 0
    size = (_SIZE[0], _SIZE[1] + (len(named) + bool(more)) * (TEXT + 4))
    paper = Pillow.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(paper)
    top = max((y for line in lines for _, y in line.points), default=0.0)
    step = _step(top)
    ends = step * max(1, math.ceil(top / step - 1e-9))
    width, height = _SIZE[0] - _LEFT - _RIGHT, _SIZE[1] - _TOP - _BOTTOM

    def at(x: float, y: float) -> tuple[float, float]:
        return _LEFT + x * width, _TOP + height - y / ends * height

    draw.text((0, 0), "distance to the input (L2 per pixel)", INK, font(TEXT))
    for number in range(round(ends / step) + 1):
        y = number * step
        draw.line((*at(0, y), *at(1, y)), LINE)
        text = f"{y:.4g}"
        draw.text((_LEFT - GAP_OF_TICKS - width_of(text, TEXT - 2), at(0, y)[1] - 7), text, SOFT, font(TEXT - 2))
    for x in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0):
        text = f"{x:g}"
        draw.text((at(x, 0)[0] - width_of(text, TEXT - 2) / 2, at(x, 0)[1] + 4), text, SOFT, font(TEXT - 2))
    draw.text((_LEFT, _SIZE[1] - 38), "strength; lower is more faithful", INK, font(TEXT))
    draw.text((_LEFT, _SIZE[1] - 18), "Realism: not measured, needs real pictures", SOFT, font(TEXT - 2))
    for number, line in enumerate(lines):
        _draw_line(draw, [at(*point) for point in sorted(line.points)], _COLOURS[number % len(_COLOURS)])
    for number, line in enumerate(named):
        y = _SIZE[1] + number * (TEXT + 4)
        draw.rectangle((_LEFT - 20, y + 6, _LEFT - 6, y + 9), _COLOURS[number % len(_COLOURS)])
        draw.text((_LEFT, y), cut(line.name, TEXT - 2, width), INK, font(TEXT - 2))
    if more:
        draw.text((_LEFT, _SIZE[1] + len(named) * (TEXT + 4)), f"and {more} more", SOFT, font(TEXT - 2))
    return paper


GAP_OF_TICKS = 6


def _draw_line(draw: ImageDraw.ImageDraw, points: Sequence[tuple[float, float]], colour: str) -> None:
    if len(points) > 1:
        draw.line(list(points), colour, 2)
    for x, y in points:
        draw.ellipse((x - 3, y - 3, x + 3, y + 3), colour)


def _step(top: float) -> float:
    """A round distance between the lines of a plot that goes up to `top`: 1, 2 or 5 of some power of ten."""
    if top <= 0:
        return 0.1
    power = 10.0 ** math.floor(math.log10(top / 4))
    return next(power * part for part in (1, 2, 5, 10) if power * part * 4 >= top * 0.999)
