"""Animations of a picture that forms: a frame a step, and time to look at the last."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ..errors import UsageError
from .codec import Film, Picture
from .encode import encode, encode_film
from .mp4 import check_encoder, mp4
from .profiles import seen_in_srgb
from .transparency import seen

if TYPE_CHECKING:
    from PIL import Image

SUFFIXES = {".webp": "webp", ".gif": "gif", ".png": "png", ".apng": "png", ".mp4": "mp4"}
_FILMS = (".webm", ".mov", ".mkv", ".avi")
_FRAME, _LAST = 100, 1500
"""Milliseconds."""
# All frames are held in memory at once.
_MOST = 1024


def format_of(suffix: str, shown: str) -> str:
    """The format of an animation of this ending. Raises UsageError for one that is not written, here or at all."""
    if suffix.lower() in SUFFIXES:
        format = SUFFIXES[suffix.lower()]
        if format == "mp4":
            check_encoder(shown)
        return format
    if suffix.lower() in _FILMS:
        raise UsageError(f"{shown}: films in {suffix[1:]} are not written; take .mp4 or .webp")
    raise UsageError(f"{shown}: '{suffix}' is no animation; expected {', '.join(SUFFIXES)}")


def framed(image: Image.Image) -> Image.Image:
    """The picture as a frame, of which no side is longer than a frame's may be."""
    frame = image.convert("RGB")
    frame.thumbnail((_MOST, _MOST))
    return frame


def animated(images: Sequence[Image.Image], of: Picture, format: str) -> bytes:
    """The bytes of an animation of these frames that goes round for ever, with transparency and profile of a picture;
    MP4 and GIF, which hold no profile, have its colours in sRGB. One frame is a still.

    Raises OutputError when they cannot be read back.
    """
    alpha = of.alpha and of.alpha.resize(images[0].size)
    if format == "mp4":
        images = [seen_in_srgb(image, of.icc) for image in images]
        shown = [seen(image, alpha, of.ground) if alpha else image for image in images]
        return mp4([*shown, *shown[-1:] * (_LAST // _FRAME - 1)], 1000 // _FRAME)
    if len(images) == 1:
        return encode(images[0], alpha, of.icc, format)
    frames = tuple(replace(of, rgb=image, alpha=alpha, film=None) for image in images)
    times = (*[float(_FRAME)] * (len(images) - 1), float(_LAST))
    return encode_film(Film(frames, times, 0), images, format, {})
