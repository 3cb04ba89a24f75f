"""How a picture comes into the size that is asked for: which part of it is scaled to what, and where that is put."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

from ..errors import UsageError

RESIZES = ("exact", "fit", "fill", "pad", "none")

Size = tuple[int, int]
"""Width and height in pixels."""


class Sizing(Protocol):
    """What an edit says of sizes."""

    @property
    def size(self) -> str | None: ...
    @property
    def resize(self) -> str | None: ...
    @property
    def max_side(self) -> int | None: ...
    @property
    def max_megapixels(self) -> float | None: ...
    @property
    def upscale(self) -> float | None: ...
    @property
    def upscaler(self) -> str | None: ...
    @property
    def strokes(self) -> int | None: ...


@dataclass(frozen=True)
class Placement:
    """The part of a picture within `box` (left, upper, right, lower) is scaled to `scaled`, and stands in the middle
    of a `frame` that is as large or larger."""

    box: tuple[float, float, float, float]
    scaled: Size
    frame: Size

    @property
    def offset(self) -> tuple[int, int]:
        """Where in the frame the upper left corner of the scaled part is."""
        return (self.frame[0] - self.scaled[0]) // 2, (self.frame[1] - self.scaled[1]) // 2

    def changes(self, size: Size) -> bool:
        """Whether a picture of this size comes out as another one."""
        return not (self.box == (0, 0, *size) and self.scaled == self.frame == size)


def placement(size: Size, sizing: Sizing) -> Placement:
    """How a picture of `size` is brought to the size that an edit names, or within the limits that it names."""
    if sizing.size is None:
        return _whole(size, _limited(size, sizing.max_side, sizing.max_megapixels))
    width, _, height = sizing.size.partition("x")
    wanted = int(width), int(height)
    ratios = [side / own for side, own in zip(wanted, size, strict=True)]
    how = sizing.resize or "exact"
    if how == "exact":
        return _whole(size, wanted)
    if how == "none":
        cut = _shared(size, wanted)
        return Placement(_middle(size, cut), cut, wanted)
    if how == "fill":
        return Placement(_middle(size, [side / max(ratios) for side in wanted]), wanted, wanted)
    scaled = _shared(_scaled(size, min(ratios)), wanted)
    return Placement((0, 0, *size), scaled, scaled if how == "fit" else wanted)


def enlarged(size: Size, upscale: float | None) -> Size:
    """`size`, so many times as large along both sides."""
    return _scaled(size, upscale or 1.0)


def check_sizing(sizing: Sizing) -> None:
    """Raises UsageError for sizes that exclude each other."""
    for key, limit in (("max-side", sizing.max_side), ("max-megapixels", sizing.max_megapixels)):
        if limit is not None and sizing.size is not None:
            raise UsageError(f"size and {key} exclude each other; give one of them")
        if limit is not None and sizing.resize == "none":
            raise UsageError(f"{key} scales a picture down, and resize none scales none; give one of them")
    if sizing.size is None and sizing.resize not in (None, "none"):
        raise UsageError(f"resize is {sizing.resize}, and there is no size to bring the picture to; add --size WxH")
    if sizing.upscaler is not None and sizing.upscale is None:
        raise UsageError("upscaler is the model that enlarges the picture, and nothing says how far; add --upscale N")
    if sizing.upscaler is not None and sizing.strokes is not None:
        raise UsageError("upscaler and strokes exclude each other: of a stroke painting no details are left")


def _whole(size: Size, scaled: Size) -> Placement:
    return Placement((0, 0, *size), scaled, scaled)


def _limited(size: Size, max_side: int | None, max_megapixels: float | None) -> Size:
    width, height = size
    if max_side is not None and max(size) > max_side:
        size = _scaled(size, max_side / max(size))
    if max_megapixels is not None and size[0] * size[1] > max_megapixels * 1e6:
        factor = math.sqrt(max_megapixels * 1e6 / (width * height))
        # Rounded down, as a limit is one.
        size = max(1, int(width * factor)), max(1, int(height * factor))
    return size


def _scaled(size: Size, factor: float) -> Size:
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def _shared(one: Size, other: Size) -> Size:
    return min(one[0], other[0]), min(one[1], other[1])


def _middle(size: Size, part: list[float] | Size) -> tuple[float, float, float, float]:
    """The box of `part` width and height in the middle of a picture; at whole pixels where it has whole sides."""
    left, upper = (
        (whole - side) // 2 if isinstance(side, int) else (whole - side) / 2
        for whole, side in zip(size, part, strict=True)
    )
    # Rounding must not lead out of the picture.
    left, upper = max(0, left), max(0, upper)
    return left, upper, min(size[0], left + part[0]), min(size[1], upper + part[1])
