"""Faithfulness and realism, as the SDEdit paper plots them (arXiv 2108.01073, section 3, figure 3), beside a sheet.

How far a picture is from its input stands across, and how far its features are from those of real pictures stands up,
with its strength beside its point. Where nobody could measure features, the distance to the input by strength is left.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .sheet import INK, LINE, PAPER, SOFT, TEXT, cut, font, width_of

if TYPE_CHECKING:
    from PIL import Image, ImageDraw

_SIZE = (400, 340)
_LEFT, _TOP, _RIGHT, _BOTTOM = 60, 34, 22, 58
_COLOURS = ("#2456c7", "#c2571a", "#1d6b3a", "#8a2be2", "#b3261e", "#6b5d00", "#007c89", "#555555")
_MOST_NAMED = 4
_SMALL, _ROW = TEXT - 2, TEXT + 4
# Of a distance that may be 0, or below as an unbiased estimate may.
_ROOM = 1e-9

Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Point:
    """A picture: its strength, its distance to the input, and in features (None: nobody measured it)."""

    strength: float
    distance: float
    features: float | None = None


@dataclass(frozen=True, slots=True)
class Line:
    """The pictures that differ in strength alone, and what they have in common."""

    name: str
    points: Sequence[Point]


@dataclass(frozen=True, slots=True)
class _Axis:
    """From where to where a scale goes, between round numbers, and its steps."""

    low: float
    high: float
    step: float

    @classmethod
    def of(cls, values: Sequence[float]) -> _Axis:
        """A scale that holds all values and 0."""
        least, most = min(0.0, *values), max(0.0, *values)
        step = _step(most - least)
        low = step * math.floor(least / step + _ROOM)
        return cls(low, max(low + step, step * math.ceil(most / step - _ROOM)), step)

    def part(self, value: float) -> float:
        return (value - self.low) / (self.high - self.low)

    def ticks(self) -> list[float]:
        return [self.low + number * self.step for number in range(round((self.high - self.low) / self.step) + 1)]


def distance(made: Image.Image, before: Image.Image) -> float:
    """The L2 distance of two pictures of one size per number in them: the root of their mean square difference, of
    0..1."""
    from PIL import ImageChops, ImageStat

    squares = [value * value for value in ImageStat.Stat(ImageChops.difference(made, before)).rms]
    return math.sqrt(sum(squares) / len(squares)) / 255


def is_measured(lines: Sequence[Line]) -> bool:
    """Whether each picture has its place on both axes."""
    return all(point.features is not None for line in lines for point in line.points)


def plotted(lines: Sequence[Line], real: str, of_input: float | None = None) -> Image.Image:
    """The plot as a picture, a line for each of `lines`; `real` says what features were compared with, and `of_input`
    how far the input is from it, if it is not the input itself."""
    from PIL import Image as Pillow
    from PIL import ImageDraw

    named = [line for line in lines if line.name][:_MOST_NAMED]
    more = len(lines) - len(named) if named else 0
    paper = Pillow.new("RGB", (_SIZE[0], _SIZE[1] + (len(named) + bool(more)) * _ROW), PAPER)
    draw = ImageDraw.Draw(paper)
    if is_measured(lines):
        _trade_off(draw, lines, real, of_input)
    else:
        _by_strength(draw, lines)
    for number, line in enumerate(named):
        y = _SIZE[1] + number * _ROW
        draw.rectangle((_LEFT - 20, y + 6, _LEFT - 6, y + 9), _colour(number))
        draw.text((_LEFT, y), cut(line.name, _SMALL, _SIZE[0] - _LEFT), INK, font(_SMALL))
    if more:
        draw.text((_LEFT, _SIZE[1] + len(named) * _ROW), f"and {more} more", SOFT, font(_SMALL))
    return paper


def _trade_off(draw: ImageDraw.ImageDraw, lines: Sequence[Line], real: str, of_input: float | None) -> None:
    points = [point for line in lines for point in line.points]
    across = _Axis.of([point.distance for point in points])
    up = _Axis.of([of_input or 0.0, *(point.features or 0.0 for point in points)])
    at = _frame(draw, across, up)
    draw.text((0, 0), cut(f"distance in features to {real}", TEXT, _SIZE[0]), INK, font(TEXT))
    draw.text((_LEFT, _SIZE[1] - 38), "distance to the input (L2 per pixel)", INK, font(TEXT))
    draw.text((_LEFT, _SIZE[1] - 18), "lower: more alike; left: more faithful", SOFT, font(_SMALL))
    named: list[tuple[str, tuple[float, float], str]] = []
    if of_input is not None:
        named.append(("input", at(0, of_input), SOFT))
        _draw_line(draw, [at(0, of_input)], SOFT)
    for number, line in enumerate(lines):
        ordered = sorted(line.points, key=lambda point: point.strength)
        places = [at(point.distance, point.features or 0.0) for point in ordered]
        _draw_line(draw, places, _colour(number))
        texts = (f"{point.strength:g}" for point in ordered)
        named += [(text, place, _colour(number)) for text, place in zip(texts, places, strict=True)]
    taken = [(x - 3, y - 3, x + 3, y + 3) for _, (x, y), _ in named]
    for text, place, colour in named:
        _label(draw, text, place, taken, colour)


def _label(draw: ImageDraw.ImageDraw, text: str, place: tuple[float, float], taken: list[Box], colour: str) -> None:
    """Writes beside a point where there is room, above it first; nothing where there is none."""
    (x, y), width, height = place, width_of(text, _SMALL), _SMALL
    for left, top in ((x + 5, y - height - 4), (x + 5, y + 2), (x - width - 5, y - height - 4), (x - width - 5, y + 2)):
        box = (left, top, left + width, top + height + 2)
        if box[2] < _SIZE[0] and all(_apart(box, other) for other in taken):
            draw.text((left, top), text, colour, font(_SMALL))
            taken.append(box)
            return


def _apart(a: Box, b: Box) -> bool:
    return a[2] < b[0] or b[2] < a[0] or a[3] < b[1] or b[3] < a[1]


def _by_strength(draw: ImageDraw.ImageDraw, lines: Sequence[Line]) -> None:
    up = _Axis.of([point.distance for line in lines for point in line.points])
    at = _frame(draw, _Axis(0.0, 1.0, 0.2), up)
    draw.text((0, 0), "distance to the input (L2 per pixel)", INK, font(TEXT))
    draw.text((_LEFT, _SIZE[1] - 38), "strength; lower is more faithful", INK, font(TEXT))
    draw.text((_LEFT, _SIZE[1] - 18), "Realism: not measured", SOFT, font(_SMALL))
    for number, line in enumerate(lines):
        _draw_line(
            draw, [at(*place) for place in sorted((p.strength, p.distance) for p in line.points)], _colour(number)
        )


def _frame(draw: ImageDraw.ImageDraw, across: _Axis, up: _Axis) -> Callable[[float, float], tuple[float, float]]:
    """Draws both scales; where a pair of values is on the paper."""
    width, height = _SIZE[0] - _LEFT - _RIGHT, _SIZE[1] - _TOP - _BOTTOM

    def at(x: float, y: float) -> tuple[float, float]:
        return _LEFT + across.part(x) * width, _TOP + (1 - up.part(y)) * height

    for y in up.ticks():
        draw.line((*at(across.low, y), *at(across.high, y)), LINE)
        text = _number(y)
        draw.text((_LEFT - 6 - width_of(text, _SMALL), at(across.low, y)[1] - 7), text, SOFT, font(_SMALL))
    for x in across.ticks():
        text, place = _number(x), at(x, up.low)
        draw.text((place[0] - width_of(text, _SMALL) / 2, place[1] + 4), text, SOFT, font(_SMALL))
    return at


def _draw_line(draw: ImageDraw.ImageDraw, places: Sequence[tuple[float, float]], colour: str) -> None:
    if len(places) > 1:
        draw.line(list(places), colour, 2)
    for x, y in places:
        draw.ellipse((x - 3, y - 3, x + 3, y + 3), colour)


def _colour(number: int) -> str:
    return _COLOURS[number % len(_COLOURS)]


def _number(value: float) -> str:
    text = f"{round(value, 12):.4g}"
    return "0" if text == "-0" else text


def _step(span: float) -> float:
    """A round distance between the ticks of a scale of that length: 1, 2 or 5 of some power of ten."""
    if span <= 0:
        return 0.1
    power = 10.0 ** math.floor(math.log10(span / 4))
    return next(power * part for part in (1, 2, 5, 10) if power * part * 4 >= span * 0.999)
