"""Pictures on their way out: the bytes of a PNG, JPEG, WebP, AVIF or GIF, read back before anybody gets them."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..errors import OutputError, UsageError
from .codec import Film
from .containers import gif_start
from .film import arguments, bare, check, webp, wholes
from .profiles import seen_in_srgb
from .quiet import quiet
from .readers import pillow
from .transparency import WHITE, Colour

if TYPE_CHECKING:
    from PIL import Image

# Chosen to keep what was edited: chroma at full resolution, and the best quality short of waste.
_ENCODINGS: dict[str, dict[str, Any]] = {
    "png": {},
    "jpeg": {"quality": 95, "subsampling": 0},
    "webp": {"quality": 95, "method": 4, "exact": True},
    "gif": {},
    # Without tiles, whose number would depend on the machine.
    "avif": {"quality": 90, "subsampling": "4:4:4", "autotiling": False},
}
# They hold no colour profile, and get the colours that it stands for.
_WITHOUT_PROFILE = ("gif",)
_EXACT_ALPHA = {"alpha:lossless": "1"}
_SIDE_LIMITS = {"jpeg": 65_500, "webp": 16_383, "avif": 65_535, "gif": 65_535}


def check_format(format: str) -> None:
    """Raises UsageError for a format that this Pillow does not write."""
    if format == "avif":
        from PIL import features

        if not features.check("avif"):
            raise UsageError("this Pillow writes no AVIF; pip install -U 'pillow>=11.3', or take another --format")


def chosen(format: str, quality: int | None, *, lossless: bool) -> dict[str, Any]:
    """What Pillow is told of this quality in this format, beside what holds otherwise."""
    if lossless and format == "webp":
        return {"lossless": True, "quality": 80}  # of a picture without loss, how hard it is tried to pack it
    return {"quality": quality} if quality is not None and format not in ("png", "gif") else {}


def encode(
    rgb: Image.Image,
    alpha: Image.Image | None,
    icc: bytes | None,
    format: str,
    extra: Mapping[str, Any] | None = None,
    ground: Colour = WHITE,
) -> bytes:
    """The bytes of a file in this format; JPEG, which has no alpha, shows the picture on `ground`, and GIF, which has
    no profile, the colours of `icc` in sRGB.

    Raises OutputError for what the format does not hold, or when the bytes cannot be read back.
    """
    from PIL import Image

    limit = _SIDE_LIMITS.get(format)
    if limit is not None and max(rgb.size) > limit:
        size = f"{rgb.width} x {rgb.height}"
        raise OutputError(f"a {format} holds at most {limit} pixels a side, this picture is {size}; use --format png")
    whole = bare(seen_in_srgb(rgb, icc) if format in _WITHOUT_PROFILE else rgb)
    if alpha is not None and format == "jpeg":
        whole = Image.composite(rgb, Image.new("RGB", rgb.size, ground), alpha)
    elif alpha is not None:
        whole.putalpha(alpha)
    profile = {"icc_profile": icc} if icc else {}
    data = _encoded(whole, format, {**_ENCODINGS[format], **profile, **(extra or {})})
    _read_back(data, whole, format)
    return data


def _encoded(whole: Image.Image, format: str, options: Mapping[str, Any]) -> bytes:
    buffer = io.BytesIO()
    if format == "gif":
        whole.save(buffer, format, **options)
        return with_blocks(buffer.getvalue(), options.get("blocks", b""))
    if format == "avif" and whole.mode == "RGBA":
        try:
            whole.save(buffer, format, **options, advanced=_EXACT_ALPHA)
            return buffer.getvalue()
        except (OSError, ValueError):  # an encoder other than aom does not know it
            buffer = io.BytesIO()
    whole.save(buffer, format, **options)
    return buffer.getvalue()


def with_blocks(data: bytes, blocks: bytes) -> bytes:
    """A GIF with these extensions before its pictures."""
    at = gif_start(data)
    return b"GIF89a" + data[6:at] + blocks + data[at:] if blocks else data


def encode_film(film: Film, images: Sequence[Image.Image], format: str, extra: Mapping[str, Any]) -> bytes:
    """The bytes of an animation of these edited frames, with times and transparency of `film`. Raises OutputError."""
    icc = film.frames[0].icc or b""
    if format in _WITHOUT_PROFILE:
        images = [seen_in_srgb(image, icc) for image in images]
    whole = list(wholes(film, images))
    if format == "webp":
        beside = {"exif": b"", "xmp": b"", **extra}
        plain = {**_ENCODINGS[format], **{key: value for key, value in extra.items() if key not in ("exif", "xmp")}}
        stills = [_encoded(one, format, plain) for one in whole]
        data = webp(stills, film, icc, beside["exif"], beside["xmp"])
    else:
        profile = {"icc_profile": icc} if icc else {}
        options = {**_ENCODINGS[format], **profile, **extra, **arguments(film, whole[1:], format)}
        data = _encoded(whole[0], format, options)
    check(data, film, format, alike=len({one.tobytes() for one in whole}) == 1)
    return data


def _read_back(data: bytes, whole: Image.Image, format: str) -> None:
    """Raises OutputError unless the bytes are a picture again; PNG, which loses nothing, must give the very pixels."""
    try:
        with quiet():
            again = pillow(data)
            again.load()
        same = again.size == whole.size and (format != "png" or again.tobytes() == whole.tobytes())
    except MemoryError:
        raise
    except Exception as problem:  # readers raise whatever they stumble over
        raise OutputError(f"the {format} cannot be read back ({problem}); nothing was written, try another") from None
    if not same:
        raise OutputError(f"the {format} reads back as another picture; nothing was written, try another --format")
