"""The zip archives that torch.save writes: members stored one after another, uncompressed, to be mapped in place.

The central directory is read by our own parser, because it has to be strict where a general one is helpful: members
that are compressed, overlap, appear twice, or reach outside the file are refused before anything is allocated.
Layout: PKWARE's APPNOTE 6.3, sections 4.3 and 4.5.3.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from itertools import pairwise

from ....errors import ModelError, shown
from ..mapped_file import MappedFile

_END, _END_64, _LOCATOR_64 = b"PK\x05\x06", b"PK\x06\x06", b"PK\x06\x07"
_CENTRAL, _LOCAL = b"PK\x01\x02", b"PK\x03\x04"
_DIRECTORY_LIMIT = 64_000_000
_UNKNOWN_32 = 0xFFFFFFFF


@dataclass(frozen=True)
class Member:
    """A member's bytes: `start` counts from the beginning of the file; `header` is where its local header begins."""

    name: str
    header: int
    start: int
    size: int


def read_members(file: MappedFile) -> dict[str, Member]:
    """The members by name, in the order of their bytes. Raises ModelError naming the file, member and problem."""
    start, size = _directory(file)
    if start + size > file.size or size > _DIRECTORY_LIMIT:
        raise _broken(file, f"a directory of {size} bytes at byte {start} of {file.size}")
    members: dict[str, Member] = {}
    end = start + size
    position = start
    while position < end:
        member, position = _member(file, position, end, limit=start)
        if member.name in members:
            raise _broken(file, f"'{shown(member.name)}' is there twice")
        members[member.name] = member
    ordered = sorted(members.values(), key=lambda member: member.header)
    for before, after in pairwise(ordered):
        if before.start + before.size > after.header:
            raise _broken(file, f"'{shown(after.name)}' overlaps '{shown(before.name)}'")
    return {member.name: member for member in ordered}


def _directory(file: MappedFile) -> tuple[int, int]:
    """Where the central directory begins, and its length."""
    tail_start = max(0, file.size - 22 - 0xFFFF)
    tail = file.data(tail_start, file.size - tail_start)
    found = tail.rfind(_END)
    if found < 0 or len(tail) - found < 22:
        raise _broken(file, "has no directory at its end: cut short? Download or copy it again")
    end = tail_start + found
    size, start = struct.unpack_from("<II", tail, found + 12)
    locator = file.data(max(0, end - 20), 20)
    if locator[:4] != _LOCATOR_64:
        return start, size
    at = int.from_bytes(locator[8:16], "little")
    record = file.data(at, 56) if at < file.size else b""
    if len(record) < 56 or record[:4] != _END_64:
        raise _broken(file, "its 64-bit directory is missing")
    size, start = struct.unpack_from("<QQ", record, 40)
    return start, size


def _member(file: MappedFile, position: int, end: int, *, limit: int) -> tuple[Member, int]:
    """The member whose directory entry is at `position`, and where the next entry is."""
    fixed = file.data(position, 46)
    if len(fixed) < 46 or fixed[:4] != _CENTRAL:
        raise _broken(file, f"no directory entry at byte {position}")
    flags, method = struct.unpack_from("<HH", fixed, 8)
    compressed, size, name_length, extra_length, comment_length = struct.unpack_from("<IIHHH", fixed, 20)
    header = int.from_bytes(fixed[42:46], "little")
    following = position + 46 + name_length + extra_length + comment_length
    if following > end:
        raise _broken(file, f"the directory entry at byte {position} is cut short")
    raw_name = file.data(position + 46, name_length)
    name = raw_name.decode("utf-8", "backslashreplace")
    size, compressed, header = _wide(file.data(position + 46 + name_length, extra_length), (size, compressed, header))
    if flags & 1:
        raise _broken(file, f"'{shown(name)}' is encrypted")
    if method != 0 or compressed != size:
        raise _broken(
            file,
            f"'{shown(name)}' is compressed ({compressed} bytes that claim to be {size}), "
            "and torch never does that. Load and save it with torch where you trust it",
        )
    local = file.data(header, 30) if header < limit else b""
    if len(local) < 30 or local[:4] != _LOCAL:
        raise _broken(file, f"'{shown(name)}' is not at byte {header}, where the directory says")
    local_name, local_extra = struct.unpack_from("<HH", local, 26)
    if file.data(header + 30, local_name) != raw_name:
        raise _broken(file, f"'{shown(name)}' has another name at byte {header}")
    start = header + 30 + local_name + local_extra
    if start + size > limit:
        raise _broken(file, f"'{shown(name)}' ends at byte {start + size} of a file of {file.size}")
    return Member(name, header, start, size), following


def _wide(extra: bytes, fields: tuple[int, int, int]) -> tuple[int, int, int]:
    """Size, compressed size and offset, with those that did not fit 32 bits taken from the 64-bit extra field."""
    position = 0
    while position + 4 <= len(extra):
        kind, length = struct.unpack_from("<HH", extra, position)
        if kind == 1:
            wide = iter(extra[at : at + 8] for at in range(position + 4, position + 4 + length, 8))
            size, compressed, header = (
                int.from_bytes(next(wide, b""), "little") if field == _UNKNOWN_32 else field for field in fields
            )
            return size, compressed, header
        position += 4 + length
    return fields


def _broken(file: MappedFile, problem: str) -> ModelError:
    return ModelError(f"{file.path}: not a usable torch archive: {problem}")
