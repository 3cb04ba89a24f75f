"""Line charts with error bars, side by side, drawn with Pillow."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

WIDTH, HEIGHT = 460, 330
LEFT, RIGHT, TOP, BOTTOM = 70, 20, 40, 50
INK, LINE, GRID = "#222222", "#2060b0", "#dddddd"
TICKS = 5


@dataclass(frozen=True)
class Curve:
    title: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    error: tuple[float, ...]


def plot(path: Path, x_label: str, *curves: Curve) -> None:
    """Writes one panel a curve; the vertical axis spans its values with their errors."""
    canvas = Image.new("RGB", (WIDTH * len(curves), HEIGHT), "white")
    for index, curve in enumerate(curves):
        canvas.paste(panel(curve, x_label), (index * WIDTH, 0))
    path.parent.mkdir(parents=True, exist_ok=True)
    canvas.save(path)


def panel(curve: Curve, x_label: str) -> Image.Image:
    canvas = Image.new("RGB", (WIDTH, HEIGHT), "white")
    pen, font = ImageDraw.Draw(canvas), ImageFont.load_default(13)
    low = min(0.0, min(y - e for y, e in zip(curve.y, curve.error, strict=True)))
    high = max(y + e for y, e in zip(curve.y, curve.error, strict=True)) or 1.0

    def across(x: float) -> float:
        return LEFT + x * (WIDTH - LEFT - RIGHT)

    def up(y: float) -> float:
        return HEIGHT - BOTTOM - (y - low) / (high - low) * (HEIGHT - TOP - BOTTOM)

    for tick in range(TICKS + 1):
        y, x = low + (high - low) * tick / TICKS, tick / TICKS
        pen.line((LEFT, up(y), WIDTH - RIGHT, up(y)), fill=GRID)
        pen.text((LEFT - 8, up(y)), f"{y:.3g}", fill=INK, font=font, anchor="rm")
        pen.text((across(x), HEIGHT - BOTTOM + 8), f"{x:.1f}", fill=INK, font=font, anchor="mt")
    pen.line([(across(x), up(y)) for x, y in zip(curve.x, curve.y, strict=True)], fill=LINE, width=2)
    for x, y, e in zip(curve.x, curve.y, curve.error, strict=True):
        pen.line((across(x), up(y - e), across(x), up(y + e)), fill=LINE, width=2)
        pen.ellipse((across(x) - 4, up(y) - 4, across(x) + 4, up(y) + 4), fill=LINE)
    pen.text((WIDTH / 2, 14), curve.title, fill=INK, font=font, anchor="mt")
    pen.text((WIDTH / 2, HEIGHT - 12), x_label, fill=INK, font=font, anchor="mb")
    return canvas
