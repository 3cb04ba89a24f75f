"""IPTC fields (IIM) of a picture, as JPEG keeps them among the resources of Photoshop, and PNG as hex in a text."""

from __future__ import annotations

import struct
from collections.abc import Iterator

PHOTOSHOP = b"Photoshop 3.0\0"
RAW_PROFILE = "Raw profile type iptc"
_RESOURCE, _IPTC = b"8BIM", 0x0404
_MARK = 0x1C
# Pictures of the input in small.
_PREVIEWS = {(2, 200), (2, 201), (2, 202)}


def fields_of(block: bytes) -> bytes:
    """The fields of IPTC in a block of them, or of resources that has one, without previews; b'' for none.

    Raises ValueError where they are broken.
    """
    try:
        held = next(_resources(block), b"") if block.startswith(_RESOURCE) else block
        return b"".join(whole for name, whole in _fields(held.rstrip(b"\0")) if name not in _PREVIEWS)
    except (struct.error, IndexError):
        raise ValueError("cut short") from None


def _resources(block: bytes) -> Iterator[bytes]:
    at = 0
    while block[at : at + 4] == _RESOURCE:
        (number,) = struct.unpack_from(">H", block, at + 4)
        name = block[at + 6] + 1
        at += 6 + name + name % 2
        (length,) = struct.unpack_from(">I", block, at)
        if at + 4 + length > len(block):
            raise ValueError("cut short")
        if number == _IPTC:
            yield block[at + 4 : at + 4 + length]
        at += 4 + length + length % 2


def _fields(block: bytes) -> Iterator[tuple[tuple[int, int], bytes]]:
    at = 0
    while at < len(block):
        mark, record, number, length = struct.unpack_from(">BBBH", block, at)
        if mark != _MARK:
            raise ValueError("no field of IPTC")
        end = at + 5
        if length & 0x8000:  # the length of a length
            digits = length & 0x7FFF
            if digits > 4:
                raise ValueError("a field that is too long")
            length = int.from_bytes(block[end : end + digits], "big")
            end += digits
        end += length
        if end > len(block):
            raise ValueError("cut short")
        yield (record, number), block[at:end]
        at = end


def resource(fields: bytes) -> bytes:
    """The fields as a resource of Photoshop."""
    padding = b"\0" * (len(fields) % 2)
    return _RESOURCE + struct.pack(">HHI", _IPTC, 0, len(fields)) + fields + padding


def raw_profile(fields: bytes) -> str:
    """The fields as text of a PNG: the kind, the length, and hex in lines."""
    block = resource(fields)
    digits = block.hex()
    lines = [digits[at : at + 72] for at in range(0, len(digits), 72)]
    return "\n".join(["", "iptc", f"{len(block):8d}", *lines, ""])
