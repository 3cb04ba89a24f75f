"""Pictures to tensors and back: the image inputs and outputs of the library call.

Inputs are what the reference pipeline takes: a PIL picture, an array (H, W, C) or (B, H, W, C) in 0..1, a tensor
(C, H, W) or (B, C, H, W) in 0..1 (or already in -1..1, or latents), or a list of one of these. Sides are brought down
to a multiple of the autoencoder's factor: Lanczos for PIL pictures, nearest for arrays and tensors.

B batch, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Union, cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from ..errors import PictureError, UsageError, warn
from .tensors import check_tensor

ImageInput = Union[
    "Image.Image", "np.ndarray[Any, Any]", Tensor, "Sequence[Image.Image | np.ndarray[Any, Any] | Tensor]"
]
_ARRAYS = (np.float16, np.float32, np.float64)
_MEANT = "floats in 0..1 (divide by 255)"
OUTPUT_TYPES = ("pil", "np", "pt", "latent")


def preprocess(
    image: ImageInput,
    factor: int,
    latent_channels: int,
    image_channels: int = 3,
    size: tuple[int | None, int | None] = (None, None),
) -> Tensor:
    """The batch x_BCHW in -1..1 (float32 for pictures and arrays), or latents (B, latent_channels, h, w) as they are.

    `size` (width, height) is worked on in place of the picture's own, where a side is not None.
    Raises UsageError for another type, an empty list, sides under `factor`, or items of different sizes, PictureError
    for a picture whose file is damaged.
    """
    items = cast("list[Any]", list(image) if isinstance(image, (list, tuple)) else [image])
    if not items:
        raise UsageError("image: the list is empty; give one or more pictures")
    if all(isinstance(item, Image.Image) for item in items):
        return _normalise(_from_pil(items, factor, size))
    if all(isinstance(item, np.ndarray) for item in items):
        for item in items:
            if item.dtype.newbyteorder("=") not in _ARRAYS:
                raise UsageError(f"image: values are {item.dtype}; expected {_MEANT}")
        x_BHWC: np.ndarray[Any, Any] = _join(items, np.concatenate, np.stack)
        x_BCHW = torch.from_numpy(np.moveaxis(x_BHWC, 3, 1))
        return _normalise(_shrink(_checked(x_BCHW, image_channels), factor, size))
    if all(isinstance(item, Tensor) for item in items):
        for item in items:
            check_tensor("image", item, _MEANT)
        x_BCHW = _join(items, torch.cat, torch.stack)
        if x_BCHW.shape[1] == latent_channels != image_channels:
            return x_BCHW
        return _normalise(_shrink(_checked(x_BCHW, image_channels), factor, size))
    kinds = ", ".join(sorted({type(item).__name__ for item in items}))
    raise UsageError(f"image: got {kinds}; expected a PIL picture, an array, a tensor, or a list of one of these")


def _from_pil(images: list[Image.Image], factor: int, size: tuple[int | None, int | None]) -> Tensor:
    width, height = _fitted(size, images[0].size, factor)
    resized = (_rgb(loaded(image)).resize((width, height), Image.Resampling.LANCZOS) for image in images)
    x_BHWC = np.stack([np.asarray(image, dtype=np.float32) / 255.0 for image in resized])
    return torch.from_numpy(np.moveaxis(x_BHWC, 3, 1))


def loaded(image: Image.Image) -> Image.Image:
    """The picture, its file read by now. Raises PictureError where that is damaged: PIL opens files without reading
    them, and says so only here; and UsageError for a picture that was closed before."""
    file: Any = getattr(image, "fp", None)
    is_open = file is not None and not getattr(file, "closed", False)
    try:
        image.load()
    except MemoryError:
        raise
    except Exception as problem:  # whatever its decoder stumbles over
        name = getattr(image, "filename", "") or "the file of this PIL picture"
        if not is_open:
            raise UsageError(f"image: {name} was closed before it was read; give it while it is open") from problem
        text = (
            f"image: {name} is damaged or cut short ({str(problem) or type(problem).__name__}); get a whole copy of it"
        )
        raise PictureError(text) from problem
    return image


def _rgb(image: Image.Image) -> Image.Image:
    """The picture in 8-bit RGB. PIL's own conversion of deeper ones clips at 255, which turns them white."""
    if image.mode.startswith("I"):
        deep = np.asarray(image).astype(np.float32) / 257.0
        return Image.fromarray(np.asarray(np.round(np.clip(deep, 0, 255)), dtype=np.uint8)).convert("RGB")
    if image.mode == "F":
        raise UsageError("image: a PIL picture of floats has no fixed range; give an array in 0..1 with three channels")
    # Of gray with its alpha multiplied in, PIL knows one way.
    return (image.convert("LA") if image.mode == "La" else image).convert("RGB")


def _join(items: list[Any], cat: Any, stack: Any) -> Any:
    ranks = {item.ndim for item in items}
    if ranks not in ({3}, {4}):
        raise UsageError(f"image: arrays and tensors need 3 or 4 dimensions, all the same; got {sorted(ranks)}")
    shapes = {tuple(item.shape[-3:]) for item in items}
    if len(shapes) > 1:
        raise UsageError(f"image: items of one call need one size; got {sorted(shapes)}")
    return cat(items) if ranks == {4} else stack(items)


def _checked(x_BCHW: Tensor, channels: int) -> Tensor:
    if x_BCHW.shape[1] != channels:
        raise UsageError(
            f"image: arrays (H, W, C) and tensors (C, H, W) need {channels} channels; got {x_BCHW.shape[1]}"
        )
    check_tensor("image", x_BCHW, _MEANT)
    return x_BCHW


def _shrink(x_BCHW: Tensor, factor: int, size: tuple[int | None, int | None]) -> Tensor:
    width, height = _fitted(size, (x_BCHW.shape[3], x_BCHW.shape[2]), factor)
    return F.interpolate(x_BCHW, size=(height, width))


def _fitted(size: tuple[int | None, int | None], own: tuple[int, int], factor: int) -> tuple[int, int]:
    width, height = (_fit(given if side is None else side, factor) for side, given in zip(size, own, strict=True))
    return width, height


def _fit(side: int, factor: int) -> int:
    if side < factor:
        raise UsageError(f"image: a side of {side} px is under {factor} px, the least that this model can take")
    return side - side % factor


def _normalise(x_BCHW: Tensor) -> Tensor:
    lowest, highest = torch.aminmax(x_BCHW)
    if not bool(torch.isfinite(highest - lowest)):
        raise UsageError("image: has values that are not finite (NaN or infinity); expected floats in 0..1")
    if lowest < 0:
        warn("image: values below 0 are taken as already in -1..1; pass floats in 0..1", FutureWarning)
        return x_BCHW
    return 2.0 * x_BCHW - 1.0


def postprocess(x_BCHW: Tensor, output_type: str, blackened: Sequence[bool] | None = None) -> Any:
    """Decoded x_BCHW in -1..1 as PIL pictures, an array (B, H, W, C) in 0..1, or a tensor (B, C, H, W) in 0..1.

    Rows marked in `blackened` hold final values already and are only passed on.
    """
    kept = [False] * len(x_BCHW) if blackened is None else list(blackened)
    rows = [x if keep else (x * 0.5 + 0.5).clamp(0, 1) for x, keep in zip(x_BCHW, kept, strict=True)]
    y_BCHW = torch.stack(rows)
    if output_type == "pt":
        return y_BCHW
    y_BHWC = y_BCHW.cpu().permute(0, 2, 3, 1).float().numpy()
    return y_BHWC if output_type == "np" else to_pil(y_BHWC)


def to_pil(x_BHWC: np.ndarray[Any, Any]) -> list[Image.Image]:
    """One 8-bit RGB picture a row of an array in 0..1; what is no number is black."""
    bytes_BHWC = np.asarray(np.round(np.nan_to_num(x_BHWC) * 255), dtype=np.uint8)
    return [Image.fromarray(bytes_BHWC[b]) for b in range(len(bytes_BHWC))]
