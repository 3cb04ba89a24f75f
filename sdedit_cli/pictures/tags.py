"""EXIF as folders of tags: read as far as it is sound, cleaned of what holds for another picture, and written again.

Numbers stay as they are; only their byte order changes, as what is written is big-endian.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

MAIN, FOLDER, PLACE, EXCHANGE = 0, 0x8769, 0x8825, 0xA005
MAKER_NOTE, USER_COMMENT, SOFTWARE = 0x927C, 0x9286, 0x0131
XMP, IPTC = 700, 33723
TEXT, OPAQUE = 2, 7
# What is kept of one block: more than any camera writes beside thumbnails and notes of its maker.
MAX_BYTES = 1 << 20

_START = b"Exif\0\0"
# Which folder has the pointer to which.
_INSIDE = {FOLDER: MAIN, PLACE: MAIN, EXCHANGE: FOLDER}
# Of each type of TIFF the bytes of a value, and of what is turned in it for another byte order.
_UNITS = {
    **dict.fromkeys((1, 2, 6, 7, 129), (1, 1)),
    **dict.fromkeys((3, 8), (2, 2)),
    **dict.fromkeys((4, 9, 11, 13), (4, 4)),
    **dict.fromkeys((5, 10), (8, 4)),
    12: (8, 8),
}
_SHORT, _LONG = 3, 4
_COLOURS = 0xA001
_WIDTHS, _HEIGHTS = ((MAIN, 256), (FOLDER, 0xA002)), ((MAIN, 257), (FOLDER, 0xA003))
# How the input's pixels lie in its file, and are turned; what stands elsewhere in it; thumbnails, layers, and the
# maker's own notes, which hold previews, and places in the input's file.
_OF_THE_INPUT = frozenset(
    (
        *(254, 255, 258, 259, *range(262, 267), 273, 274, *range(277, 282), 284, *range(290, 294), 297, 301, 317),
        *(*range(320, 326), 330, 332, 333, 334, 336, *range(338, 343), 347, 512, 513, 514, 515, *range(517, 522)),
        *(529, 530, 531, 532, XMP, IPTC, 34377, 34675, MAKER_NOTE, 37724, 50341, 59932, 59933, *range(50706, 52600)),
    )
)


@dataclass(frozen=True, slots=True)
class Tag:
    """The values of a tag: their type as TIFF counts it, and their big-endian bytes."""

    kind: int
    raw: bytes

    @property
    def size(self) -> int:
        """The bytes that it takes in a file."""
        return 12 + (0 if len(self.raw) <= 4 else len(self.raw) + len(self.raw) % 2)


Folders = Mapping[int, Mapping[int, Tag]]


@dataclass(frozen=True)
class Found:
    """The tags of a block, by folder and number; `whole`: nothing of it was broken or too large."""

    folders: dict[int, dict[int, Tag]] = field(default_factory=dict[int, "dict[int, Tag]"])
    whole: bool = True


def read(block: bytes) -> Found:
    """The tags of an EXIF block or of a TIFF, of its first picture. Raises ValueError where it is none."""
    data = memoryview(block.removeprefix(_START))
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(bytes(data[:4]))
    if order is None or len(data) < 8:
        raise ValueError("no EXIF")
    (at,) = struct.unpack_from(f"{order}I", data, 4)
    found: dict[int, dict[int, Tag]] = {}
    budget, whole = MAX_BYTES, True
    places = {MAIN: at}
    for folder in (MAIN, *_INSIDE):
        if folder not in places:
            continue
        tags: dict[int, Tag] = {}
        for number, place in _entries(data, places[folder], order):
            if _INSIDE.get(number) == folder:
                if place and place.kind in (_LONG, 13):
                    places[number] = int.from_bytes(place.tag(data, order).raw[:4], "big")
            elif number in tags or (number in _OF_THE_INPUT and number not in (XMP, IPTC)):
                continue
            elif place is None or place.length > budget:
                whole = False
            else:  # copied only now: many tags may name the same bytes
                tags[number] = place.tag(data, order)
                budget -= tags[number].size
        found[folder] = tags
    return Found(found, whole)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where the values of a tag are in a block."""

    kind: int
    unit: int
    begin: int
    length: int

    def tag(self, data: memoryview, order: str) -> Tag:
        return Tag(self.kind, _big_endian(bytes(data[self.begin : self.begin + self.length]), self.unit, order))


def _entries(data: memoryview, at: int, order: str) -> Iterator[tuple[int, _Place | None]]:
    """The numbers of a folder's tags and where their values are; None where broken (number 0: the folder itself)."""
    if at + 2 > len(data):
        yield 0, None
        return
    (count,) = struct.unpack_from(f"{order}H", data, at)
    for start in range(at + 2, at + 2 + 12 * count, 12):
        if start + 12 > len(data):
            yield 0, None
            return
        number, kind, length = struct.unpack_from(f"{order}HHI", data, start)
        size, unit = _UNITS.get(kind, (0, 0))
        begin = start + 8
        if size * length > 4:
            (begin,) = struct.unpack_from(f"{order}I", data, begin)
        sound = size and length and size * length <= MAX_BYTES and begin + size * length <= len(data)
        yield number, _Place(kind, unit, begin, size * length) if sound else None


def _big_endian(raw: bytes, unit: int, order: str) -> bytes:
    if order == ">" or unit == 1:
        return raw
    turned = bytearray(len(raw))
    for place in range(unit):
        turned[place::unit] = raw[unit - 1 - place :: unit]
    return bytes(turned)


def cleaned(folders: Folders, size: tuple[int, int], *, srgb: bool = False) -> dict[int, dict[int, Tag]]:
    """The tags that hold for an upright picture of this size (width, height), and in sRGB, as well."""
    kept = {folder: {n: t for n, t in tags.items() if n not in _OF_THE_INPUT} for folder, tags in folders.items()}
    for side, places in zip(size, (_WIDTHS, _HEIGHTS), strict=True):
        for folder, number in places:
            if number in kept.get(folder, ()):
                kept[folder][number] = Tag(_LONG, struct.pack(">I", side))
    if srgb:
        kept.pop(EXCHANGE, None)  # which may say Adobe RGB
        if _COLOURS in kept.get(FOLDER, ()):
            kept[FOLDER][_COLOURS] = Tag(_SHORT, struct.pack(">H", 1))
    return kept


def fitted(folders: Folders, most: int) -> dict[int, dict[int, Tag]]:
    """The tags without the largest ones, so that a block of them has at most so many bytes."""
    kept = {folder: dict(tags) for folder, tags in folders.items()}
    by_size = sorted(((tag.size, folder, n) for folder, tags in kept.items() for n, tag in tags.items()), reverse=True)
    over = size_of(kept) - most
    for size, folder, number in by_size:
        if over <= 0:
            break
        del kept[folder][number]
        over -= size
    return kept


def size_of(folders: Folders) -> int:
    """An upper bound of the bytes of a block of these tags."""
    frame = len(_START) + 8 + len(folders) * (6 + 12)
    return frame + sum(tag.size for tags in folders.values() for tag in tags.values())


def joined(first: Folders, second: Folders) -> dict[int, dict[int, Tag]]:
    """The tags of both; where both have one, the second's."""
    return {folder: {**first.get(folder, {}), **second.get(folder, {})} for folder in dict.fromkeys((*first, *second))}


def written(folders: Folders) -> bytes:
    """The block of these tags, with its start; b'' where there are none."""
    used = {folder: dict(tags) for folder, tags in folders.items() if tags}
    if EXCHANGE in used:
        used.setdefault(FOLDER, {})
    if not used:
        return b""
    used.setdefault(MAIN, {})
    order = [folder for folder in (MAIN, *_INSIDE) if folder in used]
    # Pointers have a size before they have a value.
    for folder in order[1:]:
        used[_INSIDE[folder]][folder] = Tag(_LONG, bytes(4))
    starts, at = dict[int, int](), 8
    for folder in order:
        starts[folder] = at
        at += 6 + sum(tag.size for tag in used[folder].values())
    for folder in order[1:]:
        used[_INSIDE[folder]][folder] = Tag(_LONG, struct.pack(">I", starts[folder]))
    return _START + b"MM\0*" + struct.pack(">I", 8) + b"".join(_folder(used[one].items(), starts[one]) for one in order)


def _folder(tags: Iterable[tuple[int, Tag]], start: int) -> bytes:
    entries = sorted(tags)
    at = start + 6 + 12 * len(entries)
    table, values = [struct.pack(">H", len(entries))], list[bytes]()
    for number, tag in entries:
        count = len(tag.raw) // _UNITS[tag.kind][0]
        inside = tag.raw.ljust(4, b"\0")
        if len(tag.raw) > 4:
            inside = struct.pack(">I", at)
            values.append(tag.raw + b"\0" * (len(tag.raw) % 2))
            at += len(values[-1])
        table.append(struct.pack(">HHI", number, tag.kind, count) + inside)
    return b"".join([*table, bytes(4), *values])
