"""A picture in another size."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ..disk.sizes import rounded
from ..errors import PictureError
from ..options import Edit, Placement, rgb_of
from .codec import MEGAPIXELS_VARIABLE, Picture
from .transparency import Colour

if TYPE_CHECKING:
    from PIL import Image

# Lanczos looks at three pixels on each side.
_REACH = 4
# A filter that overshoots would edit what is black.
_OF_MASKS = "BILINEAR"


def sized(picture: Picture, edit: Edit, name: str, limit: float) -> Picture:
    """The picture (called `name` in errors) in the size in which an edit works on it and writes it.

    Raises PictureError when it would have more than `limit` megapixels after it is enlarged.
    """
    return picture.each(lambda one: _sized(one, edit, size_of(one.rgb.size, edit, name, limit)))


def _sized(picture: Picture, edit: Edit, size: tuple[int, int]) -> Picture:
    background = rgb_of(edit.background) if edit.background else None
    picture = in_frame(picture, edit.placement(picture.rgb.size), background)
    if picture.rgb.size == size:
        return picture
    seamless = edit.seamless or ""
    wrap = ("x" in seamless, "y" in seamless)
    alpha = _enlarged(picture.alpha, size, wrap) if picture.alpha else None
    colours = _enlarged(picture.colours, size, wrap) if picture.colours else None
    mask = _enlarged(picture.mask, size, wrap, _OF_MASKS) if picture.mask else None
    small = picture.rgb if edit.upscaler else None
    fine = picture.fine and tuple(_enlarged(one, size, wrap) for one in picture.fine)
    rgb = _enlarged(picture.rgb, size, wrap)
    return replace(picture, rgb=rgb, alpha=alpha, colours=colours, mask=mask, small=small, fine=fine)


def size_of(size: tuple[int, int], edit: Edit, name: str, limit: float) -> tuple[int, int]:
    """The size in which a picture of `size` is written. Raises PictureError as `sized`."""
    width, height = edit.size_of(size)
    if edit.upscale is not None and width * height > limit * 1e6:
        raise PictureError(
            f"{name}: enlarged {edit.upscale:g} times it is {width} x {height} pixels "
            f"({rounded(width * height / 1e6)} megapixels), over the limit of {limit:g} megapixels; "
            f"take a smaller --upscale, or raise {MEGAPIXELS_VARIABLE}"
        )
    return width, height


def in_frame(picture: Picture, how: Placement, background: Colour | None = None) -> Picture:
    """The picture, its transparency and its mask as `how` says; itself when nothing changes.

    What is added around it is transparent where the picture has transparency. It shows `background`, or its edge.
    """
    if not how.changes(picture.rgb.size):
        return picture
    rgb = _framed(_cut(picture.rgb, how), how, background)
    alpha = _framed(_cut(picture.alpha, how), how, 0) if picture.alpha else None
    colours = _framed(_cut(picture.colours, how), how, background) if picture.colours else None
    mask = _framed(_cut(picture.mask, how, _OF_MASKS), how, None) if picture.mask else None
    fine = picture.fine
    if fine is not None:
        # As the picture: its colours on the background or on its edge, and nothing to see of what is added.
        grounds: list[float | None] = [None] * 3 if background is None else [float(level) for level in background]
        channels = zip(fine, [*grounds, 0.0], strict=False)
        fine = tuple(_framed(_cut(one, how), how, ground) for one, ground in channels)
    return replace(picture, rgb=rgb, alpha=alpha, colours=colours, mask=mask, fine=fine)


def _cut(image: Image.Image, how: Placement, filter: str = "LANCZOS") -> Image.Image:
    from PIL import Image

    left, upper, right, lower = how.box
    if how.scaled == (right - left, lower - upper):
        return image.crop((int(left), int(upper), int(right), int(lower)))
    return image.resize(how.scaled, Image.Resampling[filter], box=how.box)


def _framed(image: Image.Image, how: Placement, colour: Colour | float | None) -> Image.Image:
    """The image in its frame: on a colour, or (None) with the pixels of its edge repeated."""
    from PIL import Image

    if how.scaled == how.frame:
        return image
    if colour is not None:
        frame = Image.new(image.mode, how.frame, colour)
        frame.paste(image, how.offset)
        return frame
    import numpy as np

    before = how.offset[::-1]
    sides = zip(before, how.frame[::-1], how.scaled[::-1], strict=True)
    pads = [(pad, frame - scaled - pad) for pad, frame, scaled in sides]
    pixels = np.asarray(image)
    return Image.fromarray(np.pad(pixels, [*pads, (0, 0)][: pixels.ndim], mode="edge"))


def _enlarged(
    image: Image.Image, size: tuple[int, int], wrap: tuple[bool, bool], filter: str = "LANCZOS"
) -> Image.Image:
    """The image in a larger size; where its edges meet, each is scaled with the other one behind it."""
    import numpy as np
    from PIL import Image

    x, y = (_REACH if wraps else 0 for wraps in wrap)
    if x or y:
        pixels = np.asarray(image)
        pads = [(y, y), (x, x), (0, 0)][: pixels.ndim]
        image = Image.fromarray(np.pad(pixels, pads, mode="wrap"))
    box = (x, y, image.width - x, image.height - y)
    return image.resize(size, Image.Resampling[filter], box=box)
