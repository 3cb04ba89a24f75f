"""Colour profiles: kept where they fit what is written, used up where they do not, left out where they fit nothing."""

from __future__ import annotations

import io
import struct
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL import Image

# Above it, readers of PNG refuse the whole file.
MAX_CARRIED = 1_000_000
_MAX_LABEL = 80
# Where the table of contents of a profile is, and how long each of its lines.
_TABLE, _ENTRY = 128, 12

# Mode -> what a profile for it says it is for. The engine is given nothing else: it reads bytes by the profile alone.
_SPACES = {"L": b"GRAY", "RGB": b"RGB ", "CMYK": b"CMYK", "LAB": b"Lab "}


def settled(image: Image.Image, icc: bytes, notes: list[str]) -> tuple[Image.Image, bytes | None]:
    """The picture (without alpha, 8 bits a channel) in RGB, and the profile that goes with it.

    An RGB profile is kept, also for a gray picture, which has the same levels in RGB. Others, and those too large to be
    carried, are used to bring the picture to sRGB.
    """
    if image.mode not in _SPACES:
        image = image.convert("L" if image.mode == "1" else "RGB")
    if not icc:
        return image.convert("RGB"), None
    if not _is_whole(icc):
        notes.append("its colour profile is cut short or damaged and left out")
        return image.convert("RGB"), None
    space = icc[16:20] if icc[36:40] == b"acsp" else b""
    if space == b"RGB " and image.mode in ("L", "RGB"):
        if len(icc) <= MAX_CARRIED:
            return image.convert("RGB"), icc
        image = image.convert("RGB")
    if space != _SPACES[image.mode]:
        return _without(image, notes), None
    converted = in_srgb(image, icc)
    if converted is None:
        return _without(image, notes), None
    if space == b"RGB ":
        notes.append(f"its colour profile of {len(icc) / 1e6:.1f} MB is too large to be kept: brought to sRGB by it")
    return converted, None


def _is_whole(icc: bytes) -> bool:
    """Whether a profile has all that its table of contents names (ICC.1, 7.3): what is cut is an error to its readers,
    who may refuse the picture that it came in."""
    if icc[36:40] != b"acsp":
        return True  # none at all, which is said of it
    if len(icc) < _TABLE + 4:
        return False
    (count,) = struct.unpack_from(">I", icc, _TABLE)
    begin = _TABLE + 4
    if begin + _ENTRY * count > len(icc):
        return False
    entries = (struct.unpack_from(">4sII", icc, begin + _ENTRY * n) for n in range(count))
    return all(at + size <= len(icc) for _, at, size in entries)


def _without(image: Image.Image, notes: list[str]) -> Image.Image:
    notes.append("its colour profile does not fit its colours and is left out")
    return image.convert("RGB")


def in_srgb(image: Image.Image, icc: bytes) -> Image.Image | None:
    """The picture brought to sRGB by its profile; None where that is no profile for it."""
    from PIL import ImageCms

    try:
        cms: Any = ImageCms
        converted = cms.profileToProfile(
            image, cms.ImageCmsProfile(io.BytesIO(icc)), cms.createProfile("sRGB"), outputMode="RGB"
        )
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None
    # It is noted there with the time at which it was made.
    converted.info.pop("icc_profile", None)
    return converted


def seen_in_srgb(image: Image.Image, icc: bytes | None) -> Image.Image:
    """The picture for readers who are told of no profile; as it is where it has none that can be used."""
    return (in_srgb(image, icc) or image) if icc else image


def label(icc: bytes) -> str:
    """What a profile calls itself; '' for none, 'unreadable' for one that is none."""
    from PIL import ImageCms

    if not icc:
        return ""
    try:
        cms: Any = ImageCms
        return str(cms.getProfileDescription(cms.ImageCmsProfile(io.BytesIO(icc)))).strip()[:_MAX_LABEL] or "unnamed"
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return "unreadable"
