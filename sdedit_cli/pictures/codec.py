"""Pictures in and out: any file that Pillow reads becomes RGB, alpha and colour profile, and goes back out whole."""

from __future__ import annotations

import hashlib
import io
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..errors import OutputError, PictureError, UsageError
from .source import read_bytes

if TYPE_CHECKING:
    from PIL import Image

MAX_MEGAPIXELS = 100.0
MEGAPIXELS_VARIABLE = "SDEDIT_MAX_MEGAPIXELS"
FORMATS = {"png": ".png", "jpeg": ".jpg", "webp": ".webp"}
SUFFIXES = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".jpe": "jpeg", ".webp": "webp"}

# Chosen to keep what was edited: chroma at full resolution, and the best quality short of waste.
_ENCODINGS: dict[str, dict[str, Any]] = {
    "png": {},
    "jpeg": {"quality": 95, "subsampling": 0},
    "webp": {"quality": 95, "method": 4, "exact": True},
}
_SIDE_LIMITS = {"jpeg": 65_500, "webp": 16_383}
_HIDDEN = (255, 255, 255)
_FOREIGN_FILES = (
    (b"%PDF", "a PDF document"),
    (b"<svg", "an SVG drawing"),
    (b"<?xml", "an XML or SVG file"),
    (b"PK\x03\x04", "a zip archive"),
)


@dataclass(frozen=True)
class Picture:
    """An input: upright RGB, its alpha (mode L) and colour profile, the SHA-256 of its file, and remarks for people."""

    rgb: Image.Image
    alpha: Image.Image | None
    icc: bytes | None
    sha256: str
    notes: tuple[str, ...] = field(default=())


def pixel_limit(variables: Mapping[str, str]) -> float:
    """The limit of a picture's size in megapixels: $SDEDIT_MAX_MEGAPIXELS, or 100. Raises UsageError."""
    text = variables.get(MEGAPIXELS_VARIABLE) or str(MAX_MEGAPIXELS)
    try:
        limit = float(text)
    except ValueError:
        limit = 0.0
    if not limit > 0:
        raise UsageError(f"{MEGAPIXELS_VARIABLE} is '{text}'; expected a number above 0")
    return limit


def open_picture(data: bytes, name: str, limit: float) -> Image.Image:
    """The picture in `data`, opened and not yet decoded, within `limit` megapixels. Raises PictureError."""
    from PIL import Image

    # The limit below replaces Pillow's own, whose warning starts at another size.
    Image.MAX_IMAGE_PIXELS = None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = Image.open(io.BytesIO(data))
    except Exception as problem:
        raise PictureError(_unreadable(data, name, problem)) from None
    width, height = image.size
    if width * height > limit * 1e6:
        raise PictureError(
            f"{name}: is {width} x {height} pixels ({width * height / 1e6:.0f} megapixels), over the limit of "
            f"{limit:g} megapixels; scale it down, or raise {MEGAPIXELS_VARIABLE} if you trust the file"
        )
    return image


def _unreadable(data: bytes, name: str, problem: Exception) -> str:
    shown = "stdin" if name == "-" else name
    if not data:
        return f"{shown}: is empty (0 bytes); expected a picture"
    start = data[:512].lstrip().lower()
    kind = next((kind for mark, kind in _FOREIGN_FILES if start.startswith(mark.lower())), "")
    if data[4:12] in (b"ftypheic", b"ftypheix", b"ftypmif1", b"ftyphevc"):
        kind = "a HEIC picture, which Pillow does not read"
    if not kind and _is_text(data[:4096]):
        kind = "a text file"
    if kind:
        return f"{shown}: is {kind}; expected a picture such as PNG, JPEG, WebP or TIFF"
    from PIL import UnidentifiedImageError

    why = "no known picture format" if isinstance(problem, UnidentifiedImageError) else str(problem)
    return f"{shown}: cannot be read as a picture ({why}); it may be damaged"


def _is_text(sample: bytes) -> bool:
    try:
        return sample.decode("utf-8", "ignore").isprintable() or all(
            char.isprintable() or char in "\r\n\t" for char in sample.decode("utf-8")
        )
    except UnicodeDecodeError:
        return False


def read_picture(source: str, limit: float) -> Picture:
    """The picture in a file ('-': stdin), decoded, upright, in 8 bits a channel. Raises PictureError."""
    data = read_bytes(source)
    shown = "stdin" if source == "-" else source
    image = open_picture(data, shown, limit)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image.load()
            return _picture(image, hashlib.sha256(data).hexdigest())
    except MemoryError:
        raise PictureError(f"{shown}: {image.width} x {image.height} pixels do not fit into memory") from None
    except Exception as problem:  # a damaged file raises whatever its decoder stumbles over
        raise PictureError(f"{shown}: is damaged or cut short ({problem})") from None


def _picture(image: Image.Image, sha256: str) -> Picture:
    from PIL import ImageOps

    notes: list[str] = []
    if getattr(image, "is_animated", False) and image.format not in ("MPO", "ICO"):
        notes.append(f"has {getattr(image, 'n_frames', 'several')} frames; the first is edited")
    icc: bytes | None = image.info.get("icc_profile") or None
    image = ImageOps.exif_transpose(image)
    alpha = _alpha(image)
    image = _eight_bits(image)
    if icc is not None and icc[16:20] != b"RGB ":
        image, icc = _from_profile(image, icc, notes), None
    rgb = image.convert("RGBA").convert("RGB") if image.mode in ("PA", "La", "RGBa") else image.convert("RGB")
    if alpha is not None:
        # What lies under full transparency is unseen and often black; the model should not take it for a shape.
        rgb.paste(_HIDDEN, mask=alpha.point([255] + [0] * 255))
    return Picture(rgb, alpha, icc, sha256, tuple(notes))


def _alpha(image: Image.Image) -> Image.Image | None:
    if not image.has_transparency_data:
        return None
    return image.convert("RGBA").getchannel("A")


def _eight_bits(image: Image.Image) -> Image.Image:
    """Gray pictures of 16 or 32 bits scaled to 8; others as they are."""
    if not (image.mode.startswith("I;16") or image.mode in ("I", "F")):
        return image
    wide = image.convert("F")
    top = wide.getextrema()[1]
    # Whole numbers are of 16 bits. Floats don't say their white: it is the least usual one that holds all values.
    white = 65535.0
    if image.mode == "F" and isinstance(top, (int, float)):
        white = next((w for w in (1.0, 255.0, 65535.0) if top <= w), float(top))
    return wide.point(lambda value: value * (255.0 / white) + 0.5).convert("L")


def _from_profile(image: Image.Image, icc: bytes, notes: list[str]) -> Image.Image:
    """A CMYK or gray picture brought to sRGB by its own profile."""
    from PIL import ImageCms

    try:
        cms: Any = ImageCms
        target = cms.createProfile("sRGB")
        converted = cms.profileToProfile(image, cms.ImageCmsProfile(io.BytesIO(icc)), target, outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        notes.append("its colour profile does not fit its colours and is left out")
        return image
    return image if converted is None else converted


def encode(
    rgb: Image.Image, alpha: Image.Image | None, icc: bytes | None, format: str, extra: Mapping[str, Any] | None = None
) -> bytes:
    """The bytes of a PNG, JPEG or WebP file; JPEG, which has no alpha, shows the picture on white."""
    from PIL import Image

    limit = _SIDE_LIMITS.get(format)
    if limit is not None and max(rgb.size) > limit:
        size = f"{rgb.width} x {rgb.height}"
        raise OutputError(f"a {format} holds at most {limit} pixels a side, this picture is {size}; use --format png")
    if alpha is not None and format == "jpeg":
        rgb = Image.composite(rgb, Image.new("RGB", rgb.size, _HIDDEN), alpha)
    elif alpha is not None:
        rgb = rgb.copy()
        rgb.putalpha(alpha)
    buffer = io.BytesIO()
    profile = {"icc_profile": icc} if icc else {}
    rgb.save(buffer, format, **_ENCODINGS[format], **profile, **(extra or {}))
    return buffer.getvalue()
