"""Where pictures keep the texts on their edit: PNG in text chunks, JPEG and WebP in EXIF tags."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import PictureError
from .parameters import parameters, parse_parameters
from .record import Found, Record, block, parse_block
from .source import byte_limit, check_source

if TYPE_CHECKING:
    from PIL import Image

BLOCK_KEY = "sdedit"
PARAMETERS_KEY = "parameters"

_EXIF_FOLDER = 0x8769
_USER_COMMENT = 0x9286
_MAKER_NOTE = 0x927C
_SOFTWARE = 0x0131
_UTF16 = b"UNICODE\0"
_MAKER = b"sdedit\0"
# APP1 of JPEG holds 65,533 bytes; what is left over covers the tags around the two texts.
_EXIF_ROOM = 65_000


def save_arguments(record: Record, format: str) -> dict[str, Any]:
    """The keyword arguments of PIL's `Image.save` that write `record` into a 'png', 'jpeg' or 'webp'."""
    if format == "png":
        from PIL.PngImagePlugin import PngInfo

        info = PngInfo()
        info.add_text(PARAMETERS_KEY, parameters(record))
        info.add_text(BLOCK_KEY, block(record))
        return {"pnginfo": info}
    from PIL.Image import Exif

    exif = Exif()
    # Readers of UserComment take its UTF-16 in the byte order of the block around it, or as big-endian: be both.
    exif.endian = ">"
    exif[_SOFTWARE] = f"sdedit {record.version}".strip()
    folder = exif.get_ifd(_EXIF_FOLDER)
    note = _MAKER + block(record).encode()
    comment = _UTF16 + parameters(record).encode("utf-16-be")
    room = _EXIF_ROOM
    for tag, value in ((_MAKER_NOTE, note), (_USER_COMMENT, comment)):
        if len(value) <= room:
            folder[tag] = value
            room -= len(value)
    return {"exif": exif.tobytes()}


def texts(image: Image.Image) -> dict[str, str]:
    """The texts of an opened picture: 'sdedit' (the block) and 'parameters', as far as it has them."""
    found = {key: value for key in (BLOCK_KEY, PARAMETERS_KEY) if isinstance(value := image.info.get(key), str)}
    folder: dict[int, Any] = dict(image.getexif().get_ifd(_EXIF_FOLDER))
    note, comment = folder.get(_MAKER_NOTE), folder.get(_USER_COMMENT)
    if isinstance(note, bytes) and note.startswith(_MAKER):
        found.setdefault(BLOCK_KEY, note.removeprefix(_MAKER).decode("ascii", "replace"))
    if isinstance(comment, (bytes, str)) and comment:
        found.setdefault(PARAMETERS_KEY, _comment_text(comment))
    return found


def _comment_text(comment: bytes | str) -> str:
    if isinstance(comment, str):
        return comment
    code, body = comment[:8], comment[8:]
    if code != _UTF16:
        return (body if code.rstrip(b"\0 ") in (b"ASCII", b"") else comment).decode("utf-8", "replace").strip("\0")
    # The standard leaves the byte order open. The wrong one turns Latin text into rare ideographs.
    guesses = [body.decode(order, "replace") for order in ("utf-16-be", "utf-16-le")]
    return max(guesses, key=lambda text: sum(char.isascii() for char in text)).lstrip("\ufeff")


def find(path: str | Path) -> Found:
    """What the picture at `path` says of its edit. Raises PictureError when it says nothing of use."""
    from PIL import Image

    try:
        check_source(path, byte_limit(os.environ))
        image = Image.open(path)
        with image:
            held = texts(image)
    except FileNotFoundError:
        raise PictureError(f"{path}: no such file") from None
    except PictureError:
        raise
    except Exception as problem:  # damaged files raise whatever the decoder stumbles over
        raise PictureError(f"{path}: cannot be read as a picture ({problem})") from None
    if BLOCK_KEY in held:
        return parse_block(held[BLOCK_KEY], str(path))
    found = parse_parameters(held[PARAMETERS_KEY], str(path)) if PARAMETERS_KEY in held else None
    if found is None:
        raise PictureError(f"{path}: holds no settings of an edit; pictures written by sdedit or by a web UI do")
    return found
