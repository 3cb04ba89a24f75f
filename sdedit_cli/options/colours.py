"""Colours as values of options: names and notations of CSS in, '#rrggbb' kept."""

from __future__ import annotations

from .values import ValueType


def _colour(value: object) -> str:
    from PIL import ImageColor

    if not isinstance(value, str):
        raise ValueError
    red, green, blue, *_ = ImageColor.getrgb(value.strip())
    return f"#{red:02x}{green:02x}{blue:02x}"


def rgb_of(colour: str) -> tuple[int, int, int]:
    """The three levels of '#rrggbb'."""
    red, green, blue = bytes.fromhex(colour[1:])
    return red, green, blue


COLOUR = ValueType(
    "colour", "a colour such as white or #20242c", "colours", "COLOR", {"type": "string"}, _colour, _colour
)
