"""What a file is that no decoder takes for a picture, in words."""

from __future__ import annotations

import codecs
from pathlib import Path

from .containers import TIFF

_EPS = (b"%!PS", b"\xc5\xd0\xd3\xc6")
# Where a Photoshop drawing says how many bits a channel has, and those that Pillow does not read.
_PSD, _PSD_BITS, _PSD_DEEP = b"8BPS\0\1", slice(22, 24), (16, 32)
# Pictures whose first bytes are letters: cut behind them, they are no text.
_BEGUN = (b"GIF8", b"8BPS", b"BM", b"RIFF")
# In small letters: they are compared without regard to case.
_FOREIGN_FILES = (
    (b"%pdf", "a PDF document"),
    (b"<svg", "an SVG drawing"),
    (b"<?xml", "an XML or SVG file"),
    (b"pk\x03\x04", "a zip archive"),
    (b"\xff\x0a", "a JPEG XL picture, which Pillow does not read"),
    (b"\0\0\0\x0cjxl ", "a JPEG XL picture, which Pillow does not read"),
    (b"version https://git-lfs", "a Git LFS pointer and not the picture itself (git lfs pull fetches it)"),
    (b"<!doctype html", "a web page"),
    (b"<html", "a web page"),
    (b"pf\n", "a PFM picture of a kind that Pillow does not read"),
    (b"p7\n", "a PAM picture, which Pillow does not read"),
    (b"#?radiance", "a Radiance HDR picture, which Pillow does not read"),
    (b"#?rgbe", "a Radiance HDR picture, which Pillow does not read"),
    (b"v/1\x01", "an OpenEXR picture, which Pillow does not read"),
    (b"gimp xcf", "a GIMP (XCF) drawing, which Pillow does not read"),
    (b"8bps\0\2", "a large Photoshop (PSB) drawing, which Pillow does not read"),
    (b"\x1ae\xdf\xa3", "a video"),
    (b"\0\0\x01\xb3", "a video"),
    *((bytes((0x1C, record)), "a stream of IPTC fields, whose picture is not read") for record in (1, 2, 3)),
    (b"\xd7\xcd\xc6\x9a", "a Windows drawing (WMF), which is not read"),
    (b"\x01\0\0\0l\0\0\0", "a Windows drawing (EMF), which is not read"),
    (b"simple  =", "a FITS picture, which is not read"),
    (b"blp1", "a BLP texture, which is not read"),
    (b"blp2", "a BLP texture, which is not read"),
    (b"ftex", "an FTEX texture, which is not read"),
    (b"image type:", "an IFUNC (IM) picture, which is not read"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an OLE file (FlashPix, Office), which is not read"),
    (b"\x89hdf\r\n\x1a\n", "an HDF5 file, which is not read"),
    (b"grib", "a GRIB file of weather data, which is not read"),
    (b"bufr", "a BUFR file of weather data, which is not read"),
)
# Those whose mark stands further on, as it is.
_FOREIGN_WITHIN = (
    (20, b"GIMP", "a GIMP brush, which is not read"),
    (4, b"\x11\xaf", "an Autodesk (FLI) animation, which is not read"),
    (4, b"\x12\xaf", "an Autodesk (FLC) animation, which is not read"),
    (2048, b"PCD_", "a Photo CD picture, which is not read"),
)
_AVIF = (b"avif", b"avis")
# Brands of the container that HEIF and AVIF share.
_BRANDS = {
    **dict.fromkeys(_AVIF, "an AVIF picture, which this Pillow does not read"),
    **dict.fromkeys((b"isom", b"iso2", b"mp41", b"mp42", b"M4V ", b"qt  ", b"3gp4", b"3gp5"), "a video"),
    b"crx ": "a raw picture of a camera, which Pillow does not read",
    **dict.fromkeys(
        (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"),
        "a HEIC (HEIF) picture, which Pillow does not read",
    ),
}


def program(data: bytes) -> bool:
    """Whether a file is a program that draws a picture (EPS): Pillow would have Ghostscript run it."""
    return data.startswith(_EPS)


def unreadable(data: bytes, name: str, why: str) -> str:
    """The message on a file that is no picture, damaged, or of a kind that is not read (`why`: what a decoder said)."""
    if not data:
        return f"{name}: is empty (0 bytes); expected a picture"
    if kind := _kind(data):
        convert = "; convert it to PNG first" if kind.endswith("read") else ""
        return f"{name}: is {kind}; expected a picture such as PNG, JPEG, WebP or TIFF{convert}"
    return f"{name}: cannot be read as a picture ({why}); it may be damaged"


def why(problem: BaseException) -> str:
    """What a decoder said when it gave up, without addresses in memory."""
    from PIL import UnidentifiedImageError

    if isinstance(problem, UnidentifiedImageError):
        return "no known picture format"
    return str(problem) or "its decoder gives no reason"


def _kind(data: bytes) -> str:
    from PIL import features

    if program(data):
        return "a PostScript (EPS) drawing, which is a program"
    if data[4:8] == b"ftyp" and data[8:12] in _BRANDS:
        is_read = data[8:12] in _AVIF and features.check("avif")
        return "an AVIF picture that is damaged or cut short" if is_read else _BRANDS[data[8:12]]
    if data.startswith(_PSD) and (bits := int.from_bytes(data[_PSD_BITS], "big")) in _PSD_DEEP:
        return f"a Photoshop (PSD) drawing of {bits} bits, which Pillow does not read"
    start = data[:512].lstrip().lower()
    kind = next((kind for mark, kind in _FOREIGN_FILES if start.startswith(mark)), "")
    kind = kind or next((kind for at, mark, kind in _FOREIGN_WITHIN if data.startswith(mark, at)), "")
    return kind or ("a text file" if not data.startswith(_BEGUN) and _is_text(data[:4096]) else "")


def _is_text(sample: bytes) -> bool:
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(sample)  # the last letter may be cut
    except UnicodeDecodeError:
        return False
    return bool(text) and all(char.isprintable() or char in "\r\n\t" for char in text)


def is_tiff(data: bytes) -> bool:
    return data.startswith((*TIFF, b"II+\0", b"MM\0+"))


def folder_hint(source: str) -> str:
    """What to say of a folder that was named as a picture."""
    return f"{source}: is a folder, and a picture is expected; as INPUT '{Path(source) / '*.png'}' names all in it"
