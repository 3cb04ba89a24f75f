"""EXIF as it is found in pictures: read as far as it goes, however broken it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from .quiet import quiet
from .tags import FOLDER, USER_COMMENT

if TYPE_CHECKING:
    from PIL import Image

UTF16 = b"UNICODE\0"

_DESCRIPTION = 0x010E
_ORIENTATION = 0x0112
_TURNS = ("FLIP_LEFT_RIGHT", "ROTATE_180", "FLIP_TOP_BOTTOM", "TRANSPOSE", "ROTATE_270", "TRANSVERSE", "ROTATE_90")
_BROKEN = object()
_CODES = (b"UNICODE", b"ASCII\0\0", b"JIS\0\0\0\0", b"\0\0\0\0\0\0\0")


def orientation(image: Image.Image) -> int | None:
    """How the picture is turned (1 to 8), by its EXIF or XMP; None when that is broken."""
    from PIL import Image

    # Once it has failed, the picture's own reader gives an empty block.
    if _read(lambda: Image.Exif().load(image.info.get("exif") or b""), _BROKEN) is _BROKEN:
        return None
    found: Any = _read(lambda: image.getexif().get(_ORIENTATION, 1), _BROKEN)
    return None if found is _BROKEN else found if found in range(1, 9) else 1


def _read(read: Callable[[], Any], broken: object) -> Any:
    """What `read` gives; `broken` where it stumbles, over whatever it does. What it grumbles of meanwhile names no
    file, and concerns nobody who looks for something else."""
    try:
        with quiet():
            return read()
    except Exception:
        return broken


def turned(image: Image.Image, orientation: int) -> Image.Image:
    """The picture upright."""
    from PIL import Image

    return image if orientation == 1 else image.transpose(Image.Transpose[_TURNS[orientation - 2]])


def held(image: Image.Image, tag: int) -> Iterator[Any]:
    """What stands under a tag: in the folder where EXIF has it, then in the main one, where some writers put it."""
    exif = _read(image.getexif, None)
    if exif is None:
        return
    for read in (lambda: exif.get_ifd(FOLDER).get(tag), lambda: exif.get(tag)):  # each may be lost for itself
        if value := _read(read, None):
            yield value


def comments(image: Image.Image) -> Iterator[str]:
    """The texts for people, in the order in which one looks for settings."""
    for tag in (USER_COMMENT, _DESCRIPTION):
        for value in held(image, tag):
            if isinstance(value, (bytes, str)):
                yield value if isinstance(value, str) else comment_text(value)


def comment_text(comment: bytes) -> str:
    """A UserComment. Its code is often wrong or missing, and the standard leaves the byte order of UTF-16 open."""
    code, body = comment[:8], comment[8:]
    if not any(code[:7].upper() == known for known in _CODES):
        code, body = b"", comment
    wide = b"\0" in body.strip(b"\0") or (code[:7].upper() == UTF16[:7] and not _is_utf8(body))
    if not wide:
        return _decoded(body, "utf-8" if _is_utf8(body) else "latin-1")
    # The wrong order turns Latin text into rare ideographs.
    orders = ("utf-16-le",) if body.startswith(b"\xff\xfe") else ("utf-16-be", "utf-16-le")
    return max((_decoded(body, order) for order in orders), key=_plausible)


def _is_utf8(body: bytes) -> bool:
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True


def _decoded(body: bytes, encoding: str) -> str:
    return body.decode(encoding, "replace").lstrip("\ufeff").strip("\0")


def _plausible(text: str) -> tuple[bool, int]:
    """Settings first, then the more characters of ASCII."""
    return "Steps:" in text, sum(map(str.isascii, text))
