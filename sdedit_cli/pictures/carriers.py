"""Where pictures keep the texts on their edit: PNG in text chunks, JPEG and WebP in EXIF tags."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import PictureError
from .codec import Opened, open_picture
from .exif import FOLDER, MAKER_NOTE, SOFTWARE, USER_COMMENT, UTF16, comment_text, comments, held
from .parameters import is_settings, parameters, parse_parameters
from .record import Found, Record, block, parse_block
from .source import read_bytes
from .tiff import DeepTiff

BLOCK_KEY = "sdedit"
PARAMETERS_KEY = "parameters"

_MAKER = b"sdedit\0"
# APP1 of JPEG holds 65,533 bytes; what is left over covers the tags around the two texts. WebP counts in 32 bits.
_EXIF_ROOM = {"jpeg": 65_000, "webp": 1 << 24}


@dataclass(frozen=True)
class Carried:
    """The keyword arguments of PIL's `Image.save` that write a record, and what of it does not fit."""

    arguments: Mapping[str, Any]
    notes: tuple[str, ...] = ()


def carried(record: Record, format: str) -> Carried:
    """How a 'png', 'jpeg' or 'webp' carries `record`."""
    if format == "png":
        from PIL.PngImagePlugin import PngInfo

        info = PngInfo()
        info.add_text(PARAMETERS_KEY, parameters(record))
        info.add_text(BLOCK_KEY, block(record))
        return Carried({"pnginfo": info})
    from PIL.Image import Exif

    exif = Exif()
    # Readers of UserComment take its UTF-16 in the byte order of the block around it, or as big-endian: be both.
    exif.endian = ">"
    exif[SOFTWARE] = f"sdedit {record.version}".strip()
    folder = exif.get_ifd(FOLDER)
    note = _MAKER + block(record).encode()
    comment = UTF16 + parameters(record).encode("utf-16-be")
    room = _EXIF_ROOM[format]
    lost: list[str] = []
    for tag, value, reader in ((MAKER_NOTE, note, "--like"), (USER_COMMENT, comment, "web UIs")):
        if len(value) <= room:
            folder[tag] = value
            room -= len(value)
        else:
            lost.append(reader)
    notes = (f"the settings are too long for a {format}: {' and '.join(lost)} cannot read them from it; png keeps all",)
    return Carried({"exif": exif.tobytes()}, notes if lost else ())


def texts(opened: Opened) -> dict[str, str]:
    """The texts of a picture: 'sdedit' (the block) and 'parameters', as far as it has them.

    Wherever in the file they stand, and whatever else of it is broken.
    """
    image = opened.image
    if isinstance(image, DeepTiff):
        return {}
    found = {key: value for key in (BLOCK_KEY, PARAMETERS_KEY) if isinstance(value := image.info.get(key), str)}
    note = next((note for note in held(image, MAKER_NOTE) if isinstance(note, bytes) and note.startswith(_MAKER)), b"")
    if note:
        found.setdefault(BLOCK_KEY, note.removeprefix(_MAKER).decode("ascii", "replace"))
    if PARAMETERS_KEY not in found:
        said = next(
            (text for text in [*comments(image), *_comment(image.info.get("comment"))] if is_settings(text)), None
        )
        found |= {} if said is None else {PARAMETERS_KEY: said}
    return found


def _comment(comment: object) -> Iterator[str]:
    """The comment of a JPEG or GIF."""
    if isinstance(comment, bytes):
        yield comment_text(comment)


def find(path: str | Path) -> Found:
    """What the picture at `path` says of its edit. Raises PictureError when it says nothing of use."""
    return settings(open_picture(read_bytes(str(path)), str(path), math.inf), str(path))


def settings(opened: Opened, source: str) -> Found:
    """What an opened picture (called `source` in errors) says of its edit. Raises PictureError as `find` does."""
    held = texts(opened)
    if BLOCK_KEY in held:
        return parse_block(held[BLOCK_KEY], source)
    found = parse_parameters(held[PARAMETERS_KEY], source) if PARAMETERS_KEY in held else None
    if found is None:
        raise PictureError(f"{source}: holds no settings of an edit; pictures written by sdedit or by a web UI do")
    return found
