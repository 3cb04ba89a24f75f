"""Files of pictures taken apart without a decoder: the parts that pixels need, and what stands beside them.

Decoders give up a sound picture for a broken text, profile or date. Taken apart first, nothing beside the pixels can
cost them: what cannot be read is left out and named.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from .gamma import STATED, of_gray, profile_of, unsaid
from .iptc import PHOTOSHOP
from .iptc import RAW_PROFILE as IPTC_KEY
from .xmp import KEY as XMP_KEY

PNG = b"\x89PNG\r\n\x1a\n"
_PNG_END = b"IEND"
TIFF = (b"II*\0", b"MM\0*")
# What the chunks of a file may unfold into: more than any text or profile of use, and little beside a picture.
MAX_UNFOLDED = 32 << 20
_MOST_FRAMES = 2**31 - 1
_MOST_LEFT_OUT, _MORE = 8, "what else stands broken beside its pixels"
EXIF_TEXTS = ("Raw profile type exif", "Raw profile type APP1")

# The application extension of a GIF that has XMP. Bytes that count down lead those out of it who take it for blocks.
GIF_XMP = b"\x21\xff\x0bXMP DataXMP"
GIF_XMP_END = b"\x01" + bytes(range(255, -1, -1)) + b"\0"
# That of ours, which has the exact settings as blocks of at most 255 bytes.
_GIF_OURS = b"\x21\xff\x0bSDEDIT__1.0"

_EXIF_START = b"Exif\0\0"
XMP_START = b"http://ns.adobe.com/xap/1.0/\0"
_APPS, _COMMENT, _SCAN, _JFIF, _ADOBE = range(0xE0, 0xF0), 0xFE, 0xDA, 0xE0, 0xEE
APP1, APP13 = 0xE1, 0xED
_JPEG_STARTS = {APP1: (_EXIF_START, XMP_START), APP13: (PHOTOSHOP,)}
# Markers of JPEG that stand alone, without a length behind them.
_BARE_MARKERS = {0x01, 0xD8, *range(0xD0, 0xD8)}
_WEBP_PIXELS = (b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ANIM", b"ANMF")
# The flags in VP8X for a profile, EXIF and XMP.
_WEBP_BESIDE = 0b101100
_TIFF_PIXELS = frozenset(
    (
        *(256, 257, 258, 259, 262, 266, 273, 274, 277, 278, 279, 284, 292, 293, 317, 320, 322, 323, 324, 325, 338, 339),
        *(347, 513, 514, 529, 530, 531, 532),
    )
)


@dataclass(frozen=True)
class Parts:
    """A file taken apart: `pixels` is a file of the same picture with nothing else in it.

    `texts` by their keys, the blocks of EXIF, XMP, IPTC and of the colour profile (b'' for none), the number of frames,
    the transparent colour of a PNG, and what was left out, in words for people.
    """

    pixels: bytes
    texts: Mapping[str, str] = field(default_factory=dict[str, str])
    exif: bytes = b""
    xmp: bytes = b""
    iptc: bytes = b""
    icc: bytes = b""
    frames: int = 1
    colour_key: bytes = b""
    left_out: tuple[str, ...] = ()


def taken_apart(data: bytes) -> Parts | None:
    """The parts of a PNG, JPEG, WebP or TIFF; None for other files, and for what is too broken to have any."""
    if data.startswith(PNG):
        return _png(data)
    readers: dict[bool, Callable[[bytes], Parts]] = {
        data.startswith(b"\xff\xd8\xff"): _jpeg,
        data.startswith(b"RIFF") and data[8:12] == b"WEBP": _webp,
        data.startswith(TIFF): _tiff,
    }
    try:
        return readers[True](data) if True in readers else None
    except (struct.error, IndexError):
        return None


def png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes, bytes, bool]]:
    """Kind, content and whole bytes of each chunk up to the end, and whether its checksum is right.

    What follows the chunk that ends a PNG is none of it, such as the rest of a longer file that was written over.
    """
    at = len(PNG)
    kind = b""
    while at + 12 <= len(data) and kind != _PNG_END:
        (length,) = struct.unpack_from(">I", data, at)
        whole = data[at : at + 12 + length]
        kind, body = whole[4:8], whole[8 : 8 + length]
        yield kind, body, whole, whole[8 + length :] == struct.pack(">I", zlib.crc32(whole[4 : 8 + length]))
        at += 12 + length


class _Beside:
    """What is found beside the pixels of a PNG, chunk by chunk."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}
        self.exif = self.icc = b""
        self.frames = 1
        self.left_out: dict[str, None] = {}
        self._room = MAX_UNFOLDED

    def add(self, kind: bytes, body: bytes) -> None:
        """Takes a chunk in. Raises ValueError, IndexError, zlib.error or struct.error when it is none of its kind."""
        if kind == b"iCCP":
            self.icc = self._unfolded(body.split(b"\0", 1)[1][1:])
        elif kind == b"eXIf":
            self.exif = self.exif or body
        elif kind == b"acTL":
            (frames,) = struct.unpack_from(">I", body)
            if frames > _MOST_FRAMES:
                raise ValueError("more frames than a PNG may have")
            self.frames = frames
        elif kind in (b"tEXt", b"zTXt", b"iTXt"):
            name, rest = body.split(b"\0", 1)
            self._add_text(name.decode("latin-1"), kind, rest)

    def leave_out(self, what: str) -> None:
        """Notes what is left out, and of much of it that there is more: any number of chunks may be broken."""
        is_told = what in self.left_out or len(self.left_out) < _MOST_LEFT_OUT
        self.left_out[what if is_told else _MORE] = None

    def _add_text(self, key: str, kind: bytes, rest: bytes) -> None:
        if key in self.texts:
            return
        if kind == b"iTXt":
            packed, _, rest = rest[:1] == b"\1", rest[1:2], rest[2:]
            rest = rest.split(b"\0", 2)[2]
        else:
            packed = kind == b"zTXt"
            rest = rest[1:] if packed else rest
        text = _text(self._unfolded(rest) if packed else rest)
        if key in EXIF_TEXTS:
            # A line with the kind, one with the length, then hex.
            self.exif = self.exif or bytes.fromhex("".join(text.split("\n")[3:]))
        else:
            self.texts[key] = text

    def _unfolded(self, packed: bytes) -> bytes:
        """Raises ValueError when that is more than is left for all of a file."""
        unfolding = zlib.decompressobj()
        plain = unfolding.decompress(packed, self._room + 1)
        if len(plain) > self._room:
            raise ValueError("unfolds into too much")
        self._room -= len(plain)
        return plain


# Where a PNG says what its pixels are, and what it says there of gray ones, without and with alpha.
_KIND_OF_PNG, _GRAY = 25, (b"\0", b"\4")


def _png(data: bytes) -> Parts:
    beside = _Beside()
    kept = [PNG]
    key = b""
    stated: dict[bytes, bytes] = {}
    for kind, body, whole, sound in png_chunks(data):
        # The case of the first letter tells what pixels need.
        if kind[:1].isupper():
            kept.append(whole)
            continue
        name = f"a chunk of the kind {kind.decode('ascii', 'replace')}"
        if not sound:
            beside.leave_out(f"{name} with a wrong checksum")
        elif kind == b"tRNS":
            key = body
            kept.append(whole)
        elif kind in STATED:
            stated[kind] = body
        else:
            try:
                beside.add(kind, body)
            except (ValueError, IndexError, zlib.error, struct.error):
                beside.leave_out(f"{name} that cannot be read")
    if data[_KIND_OF_PNG : _KIND_OF_PNG + 1] in _GRAY:
        stated = of_gray(stated)
    # A profile goes before what else the file says of its colours: it is how its writer says the same to all.
    if not beside.icc and (lost := unsaid(stated)):
        beside.left_out[lost] = None
    return Parts(
        b"".join(kept),
        beside.texts,
        beside.exif,
        beside.texts.get(XMP_KEY, "").encode() or _raw_profile(beside.texts.get("Raw profile type xmp", "")),
        _raw_profile(beside.texts.get(IPTC_KEY, "")),
        beside.icc or profile_of(stated),
        beside.frames,
        key,
        tuple(beside.left_out),
    )


def _raw_profile(text: str) -> bytes:
    """The bytes of a text with a line for the kind, one for the length, then hex; the text itself where it is none."""
    try:
        return bytes.fromhex("".join(text.split("\n")[3:]))
    except ValueError:
        return text.encode()


def _text(raw: bytes) -> str:
    """UTF-8 where it is that (iTXt, and what careless writers put into the others), else Latin-1."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def _jpeg(data: bytes) -> Parts:
    kept, at = [data[:2]], 2
    beside: dict[bytes, bytes] = {}
    while data[at] == 0xFF:
        marker = data[at + 1]
        if marker == _SCAN:
            break
        if marker == 0xFF or marker in _BARE_MARKERS:  # fill bytes, and markers without content
            at += 1 if marker == 0xFF else 2
            continue
        end = at + 2 + struct.unpack_from(">H", data, at + 2)[0]
        body = data[at + 4 : end]
        for start in _JPEG_STARTS.get(marker, ()):
            if body.startswith(start):
                beside.setdefault(start, body[len(start) :])
        if (marker not in _APPS and marker != _COMMENT) or marker in (_JFIF, _ADOBE):
            kept.append(data[at:end])
        at = end
    exif, xmp, iptc = (beside.get(start, b"") for start in (_EXIF_START, XMP_START, PHOTOSHOP))
    return Parts(b"".join([*kept, data[at:]]), exif=exif, xmp=xmp, iptc=iptc)


def riff_chunks(data: bytes) -> Iterator[tuple[bytes, bytes, bytes]]:
    """Kind, content and whole bytes of each chunk of a WebP."""
    at = 12
    while at + 8 <= len(data):
        (length,) = struct.unpack_from("<I", data, at + 4)
        end = at + 8 + length + length % 2
        yield data[at : at + 4], data[at + 8 : at + 8 + length], data[at:end]
        at = end


def gif_start(data: bytes) -> int:
    """Where the blocks of a GIF begin: behind its first table of colours."""
    return 13 + (3 << ((data[10] & 7) + 1) if data[10] & 0x80 else 0)


def gif_block(text: str) -> bytes:
    """The application extension of a GIF that holds a text of ours."""
    data = text.encode()
    pieces = (data[at : at + 255] for at in range(0, len(data), 255))
    return _GIF_OURS + b"".join(bytes([len(piece)]) + piece for piece in pieces) + b"\0"


def said_by_gif(data: bytes) -> str:
    """The text of ours that stands before the pictures of a GIF; '' for none."""
    if not data.startswith(b"GIF8") or len(data) < 13:
        return ""
    at = data.find(_GIF_OURS, gif_start(data))
    pieces: list[bytes] = []
    at += len(_GIF_OURS) if at >= 0 else len(data) + 1
    while at < len(data) and data[at]:
        pieces.append(data[at + 1 : at + 1 + data[at]])
        at += 1 + data[at]
    return b"".join(pieces).decode("utf-8", "replace")


def _webp(data: bytes) -> Parts:
    kept: list[bytes] = []
    exif, xmp = b"", b""
    for kind, body, whole in riff_chunks(data):
        if kind == b"EXIF":
            exif = body.removeprefix(_EXIF_START)
        elif kind == b"XMP ":
            xmp = body
        elif kind == b"VP8X":
            kept.append(whole[:8] + bytes([body[0] & ~_WEBP_BESIDE]) + whole[9:])
        elif kind in _WEBP_PIXELS:
            kept.append(whole)
    content = b"WEBP" + b"".join(kept)
    return Parts(b"RIFF" + struct.pack("<I", len(content)) + content, exif=exif, xmp=xmp)


def _tiff(data: bytes) -> Parts:
    """The first page, with a directory behind it that names its pixels alone."""
    order = "<" if data.startswith(b"II") else ">"
    (at,) = struct.unpack_from(f"{order}I", data, 4)
    (count,) = struct.unpack_from(f"{order}H", data, at)
    entries = [data[at + 2 + 12 * n : at + 14 + 12 * n] for n in range(count)]
    kept = [entry for entry in entries if struct.unpack_from(f"{order}H", entry)[0] in _TIFF_PIXELS]
    padding = b"\0" * (len(data) % 2)
    directory = struct.pack(f"{order}H", len(kept)) + b"".join(kept) + bytes(4)
    start = data[:4] + struct.pack(f"{order}I", len(data) + len(padding))
    return Parts(start + data[8:] + padding + directory)
