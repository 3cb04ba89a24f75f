"""Masks on their way in: a picture file, or a picture's own opaqueness, becomes a map of strengths.

A map is a picture in mode L of the input's size: 255 is to be edited in full, 0 is to be kept. Of a file the luminance
counts (Rec. 601), in 8 bits and upright; what is transparent in it counts as black.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..errors import MaskError, PictureError
from ..options import Edit
from ..options.masks import ALPHA
from .codec import Picture, read_picture
from .source import STDIN

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from PIL import Image

_BLACK = (0, 0, 0)
_NOTHING = "its mask is too dark to run a step anywhere: nothing is edited (--invert-mask swaps black and white)"


def with_mask(picture: Picture, edit: Edit, name: str, limit: float) -> Picture:
    """The picture with the mask that an edit names; `name` is that of the picture in errors. Raises MaskError."""
    if edit.mask is None:
        return picture
    levels, digest = _own(picture, name) if edit.mask == ALPHA else _of_file(edit.mask, picture, name, limit)
    mask = shaped(levels, edit)
    notes = picture.notes if _edits(mask, edit) else (*picture.notes, _NOTHING)
    return replace(picture, notes=notes, mask=mask, mask_sha256=digest)


def check_mask(edit: Edit, source: str, limit: float) -> None:
    """Raises MaskError where the mask of an edit does not fit the picture in a file (stdin is not read)."""
    if edit.mask is not None and source != STDIN:
        with_mask(read_picture(source, limit), edit, source, limit)


def _edits(mask: Image.Image, edit: Edit) -> bool:
    """Whether any level of a mask runs a step."""
    extremes: Any = mask.getextrema()
    share = extremes[1] / 255 if edit.mask_mode == "map" and not edit.exact_steps else float(extremes[1] > 0)
    return any(one.steps_total() * one.strength * share >= 1 for one in edit.rounds())


def _own(picture: Picture, name: str) -> tuple[Image.Image, str]:
    if picture.alpha is None:
        raise MaskError(f"{name}: has no transparency for --mask alpha to take; name a file, or leave --mask out")
    return picture.alpha, ""


def _of_file(mask: str, picture: Picture, name: str, limit: float) -> tuple[Image.Image, str]:
    found = _read(mask, limit)
    if found.rgb.size != picture.rgb.size:
        (width, height), (wanted, high) = found.rgb.size, picture.rgb.size
        raise MaskError(
            f"{mask}: this mask is {width} x {height} and the picture {name} is {wanted} x {high}; "
            f"scale the mask to {wanted} x {high}, the picture's size before --size and --max-side"
        )
    return found.rgb.convert("L"), found.sha256


def _read(mask: str, limit: float) -> Picture:
    if mask == STDIN:
        raise MaskError("--mask -: stdin is for the picture to edit; name a file")
    try:
        return read_picture(mask, limit, _BLACK)
    except PictureError as problem:
        raise MaskError(f"--mask {problem}") from None


def shaped(levels: Image.Image, edit: Edit) -> Image.Image:
    """The levels of a mask as an edit has them: inverted, then grown or shrunk, then blurred."""
    from PIL import Image, ImageFilter

    if edit.invert_mask:
        levels = levels.point([255 - value for value in range(256)])
    if edit.mask_grow:
        levels = Image.fromarray(_grown(levels, edit.mask_grow))
    return levels.filter(ImageFilter.GaussianBlur(edit.mask_blur)) if edit.mask_blur else levels


def _grown(levels: Image.Image, by: int) -> npt.NDArray[np.uint8]:
    """Of every pixel the largest level of a square around it, or the smallest where `by` is below 0."""
    import numpy as np

    grown, pick = np.asarray(levels), np.maximum if by > 0 else np.minimum
    for axis in (0, 1):
        # A window is doubled until it has its size: few passes, however wide it is.
        reach = 0
        while reach < abs(by):
            step = min(2 * reach + 1, abs(by) - reach)
            grown = pick(grown, pick(_moved(grown, step, axis), _moved(grown, -step, axis)))
            reach += step
    return grown


def _moved(levels: npt.NDArray[np.uint8], by: int, axis: int) -> npt.NDArray[np.uint8]:
    """The levels, each taken `by` pixels further on; beyond the edge stands what is at the edge."""
    import numpy as np

    length: int = levels.shape[axis]
    places = [min(max(at + by, 0), length - 1) for at in range(length)]
    return np.take(levels, places, axis=axis)
