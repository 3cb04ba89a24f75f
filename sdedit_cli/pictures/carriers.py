"""Where pictures keep the texts on their edit: PNG in text chunks, the others in EXIF tags."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import PictureError
from .beside import MARK_OF_OURS, NOTHING, Beside, Kept, kept, within
from .codec import Opened, open_picture
from .containers import APP1, APP13, GIF_XMP, GIF_XMP_END, XMP_START, gif_block, said_by_gif
from .exif import UTF16, comment_text, comments, held
from .foreign import found_of, read_json, table
from .foreign_graph import said_by_graph
from .foreign_tables import said_by_tables
from .iptc import PHOTOSHOP, RAW_PROFILE, raw_profile, resource
from .parameters import is_settings, parameters, parse_parameters
from .record import Found, Record, block, parse_block
from .source import read_bytes
from .stealth import hidden_text
from .tags import FOLDER, MAIN, MAKER_NOTE, OPAQUE, SOFTWARE, TEXT, USER_COMMENT, Tag, joined, size_of, written
from .tiff import DeepTiff
from .xmp import KEY as XMP_KEY

if TYPE_CHECKING:
    from PIL import Image

BLOCK_KEY = "sdedit"
PARAMETERS_KEY = "parameters"
# Those of web UIs and Fooocus, ComfyUI, InvokeAI (new, older, oldest) and NovelAI.
_KEYS = (
    *(PARAMETERS_KEY, "prompt", "invokeai_metadata", "sd-metadata", "Dream"),
    *("Comment", "Description", "Software", "Source"),
)
# Where ComfyUI has its graph in a WebP: as the camera's model or maker.
_GRAPH_TAGS, _GRAPH = (0x0110, 0x010F), "prompt:"

_JPEG_MOST = 65_533


@dataclass(frozen=True)
class _Room:
    """How many bytes of each a format holds; `records`: of EXIF, what the texts on an edit may take."""

    records: int
    exif: int
    xmp: int
    iptc: int


# APP1 and APP13 of JPEG hold 65,533 bytes each; the others count in 32 bits, and get what is of use.
_ROOM = {
    "png": _Room(0, 1 << 20, 1 << 21, 1 << 20),
    "jpeg": _Room(65_000, _JPEG_MOST, _JPEG_MOST - len(XMP_START), _JPEG_MOST - 64),
    "webp": _Room(1 << 24, (1 << 24) + (1 << 20), 1 << 21, 0),
    "gif": _Room(0, 0, 1 << 21, 0),
    "avif": _Room(1 << 24, (1 << 24) + (1 << 20), 1 << 21, 0),
}


@dataclass(frozen=True)
class Carried:
    """The keyword arguments of PIL's `Image.save` that write what stands beside the pixels, and notes for people."""

    arguments: Mapping[str, Any]
    notes: tuple[str, ...] = ()


def carried(
    record: Record | None,
    format: str,
    source: Beside = NOTHING,
    size: tuple[int, int] = (0, 0),
    *,
    srgb: bool = False,
) -> Carried:
    """How a picture in this format, of `size` (width, height) carries `record`, the mark that a model took part, and
    what stood beside the pixels of the input. Without a record, the last alone. `srgb`: its colours are sRGB now."""
    room, ours, notes = _ROOM[format], dict[int, dict[int, Tag]](), list[str]()
    if record and room.records:
        ours, lost = _in_exif(record, room.records)
        if lost:
            readers = " and ".join(lost)
            notes.append(f"the settings are too long for a {format}: {readers} cannot read them from it; png keeps all")
    theirs = kept(source, size, marked=record is not None, srgb=srgb)
    theirs = within(theirs, exif=room.exif - size_of(ours), xmp_most=room.xmp, iptc_most=room.iptc, format=format)
    return Carried(_ARGUMENTS[format](record, written(joined(theirs.exif, ours)), theirs), (*notes, *theirs.notes))


def _in_exif(record: Record, room: int) -> tuple[dict[int, dict[int, Tag]], list[str]]:
    """The tags that hold a record, and who does not find it for want of room."""
    # Readers of UserComment take its UTF-16 in the byte order of the block around it, or as big-endian: it is both.
    note = MARK_OF_OURS + block(record).encode()
    comment = UTF16 + parameters(record).encode("utf-16-be")
    folder: dict[int, Tag] = {}
    lost: list[str] = []
    for number, value, reader in ((MAKER_NOTE, note, "--like"), (USER_COMMENT, comment, "web UIs")):
        if len(value) <= room:
            folder[number] = Tag(OPAQUE, value)
            room -= len(value)
        else:
            lost.append(reader)
    software = f"sdedit {record.version}".strip().encode("ascii", "replace") + b"\0"
    return {MAIN: {SOFTWARE: Tag(TEXT, software)}, FOLDER: folder}, lost


def _png(record: Record | None, exif: bytes, theirs: Kept) -> dict[str, Any]:
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    if record:
        info.add_text(PARAMETERS_KEY, parameters(record))
        info.add_text(BLOCK_KEY, block(record))
    if theirs.xmp:
        info.add_itxt(XMP_KEY, theirs.xmp.decode())
    if theirs.iptc:
        info.add_text(RAW_PROFILE, raw_profile(theirs.iptc), zip=True)
    return {"pnginfo": info, **({"exif": exif} if exif else {})}


def _jpeg(record: Record | None, exif: bytes, theirs: Kept) -> dict[str, Any]:
    del record
    packet = [(APP1, XMP_START + theirs.xmp)] if theirs.xmp else []
    fields = [(APP13, PHOTOSHOP + resource(theirs.iptc))] if theirs.iptc else []
    extra = b"".join(struct.pack(">BBH", 0xFF, app, 2 + len(body)) + body for app, body in packet + fields)
    return {"exif": exif, "extra": extra}


def _exif_and_xmp(record: Record | None, exif: bytes, theirs: Kept) -> dict[str, Any]:
    del record
    return {"exif": exif, "xmp": theirs.xmp}


def _gif(record: Record | None, exif: bytes, theirs: Kept) -> dict[str, Any]:
    del exif
    packet = GIF_XMP + theirs.xmp + GIF_XMP_END if theirs.xmp else b""
    if not record:
        return {"blocks": packet}
    return {"blocks": gif_block(block(record)) + packet, "comment": parameters(record).encode()}


_ARGUMENTS = {"gif": _gif, "png": _png, "jpeg": _jpeg, "webp": _exif_and_xmp, "avif": _exif_and_xmp}


def texts(opened: Opened) -> dict[str, str]:
    """The texts of a picture by their keys: 'sdedit' (the block), 'parameters', and those that other programs write.

    Wherever in the file they stand, and whatever else of it is broken.
    """
    image = opened.image
    if isinstance(image, DeepTiff):
        return {}
    found = {key: value for key in (BLOCK_KEY, *_KEYS) if isinstance(value := image.info.get(key), str)}
    note = next(
        (note for note in held(image, MAKER_NOTE) if isinstance(note, bytes) and note.startswith(MARK_OF_OURS)), b""
    )
    if said := said_by_gif(opened.data):
        found.setdefault(BLOCK_KEY, said)
    if note:
        found.setdefault(BLOCK_KEY, note.removeprefix(MARK_OF_OURS).decode("ascii", "replace"))
    if PARAMETERS_KEY not in found:
        said = next((text for text in [*comments(image), *_comment(image.info.get("comment"))] if _tells(text)), None)
        found |= {} if said is None else {PARAMETERS_KEY: said}
    for tag in _GRAPH_TAGS:
        for value in held(image, tag):
            if isinstance(value, str) and value.startswith(_GRAPH):
                found.setdefault("prompt", value.removeprefix(_GRAPH))
    return found


def _tells(text: str) -> bool:
    return is_settings(text) or text.startswith("{")


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
    found = _foreign(held, source) or (None if isinstance(opened.image, DeepTiff) else _hidden(opened.image, source))
    if found is None:
        raise PictureError(
            f"{source}: holds no settings of an edit; pictures written by sdedit, a web UI, ComfyUI, InvokeAI, "
            "Fooocus or NovelAI do"
        )
    return found


def _foreign(held: Mapping[str, str], source: str) -> Found | None:
    """What texts of other programs say, by their keys."""
    said = said_by_tables(held) or said_by_graph(held)
    if said is not None:
        return found_of(said, source)
    return parse_parameters(held[PARAMETERS_KEY], source) if PARAMETERS_KEY in held else None


def _hidden(image: Image.Image, source: str) -> Found | None:
    """What is hidden in the pixels: a web UI's text, or a table of the texts that stand beside them elsewhere."""
    hidden = hidden_text(image)
    if not hidden:
        return None
    texts = {key: value for key, value in table(read_json(hidden)).items() if isinstance(value, str)}
    return _foreign({**texts, PARAMETERS_KEY: texts.get(PARAMETERS_KEY, hidden)}, source)
