"""What stands beside the pixels of an input and holds for its edit as well: EXIF, XMP and IPTC."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from . import iptc, tags, xmp
from .containers import GIF_XMP, GIF_XMP_END
from .exif import comment_text
from .parameters import is_settings
from .refusals import is_tiff

if TYPE_CHECKING:
    from PIL import Image

    from .containers import Parts

MARK_OF_OURS = b"sdedit\0"
_DESCRIPTION = 0x010E


@dataclass(frozen=True)
class Beside:
    """The blocks as the file has them, sound or not; b'' for none. `exif` may be a whole TIFF."""

    exif: bytes = b""
    xmp: bytes = b""
    iptc: bytes = b""


NOTHING = Beside()


def beside(image: Image.Image | None, data: bytes, parts: Parts | None) -> Beside:
    """What stands beside the pixels of a file, opened (where Pillow does) and taken apart (where that is known)."""
    if is_tiff(data):
        return _of_tiff(data)
    if data.startswith(b"GIF8"):
        _, begun, rest = data.partition(GIF_XMP)
        packet, ended, _ = rest.partition(GIF_XMP_END)
        return Beside(xmp=packet if begun and ended else b"")
    if parts or image is None:
        return Beside(parts.exif, parts.xmp, parts.iptc) if parts else NOTHING
    found = (image.info.get(key) for key in ("exif", "xmp"))
    exif, packet = (block if isinstance(block, bytes) else b"" for block in found)
    return Beside(exif, packet)


def _of_tiff(data: bytes) -> Beside:
    try:
        main = tags.read(data).folders.get(tags.MAIN, {})
    except ValueError:
        return NOTHING
    packet, fields = (main[number].raw if number in main else b"" for number in (tags.XMP, tags.IPTC))
    return Beside(data, packet, fields)


@dataclass(frozen=True)
class Kept:
    """What of it holds for the edited picture, and what was left out, in words for people."""

    exif: tags.Folders
    xmp: bytes
    iptc: bytes
    notes: tuple[str, ...] = ()


def kept(source: Beside, size: tuple[int, int], *, marked: bool, srgb: bool = False) -> Kept:
    """What holds for an upright picture of `size` (width, height), without settings of earlier edits; the XMP `marked`
    as made with a model or not, the EXIF as of colours that are `srgb` or of the input's own."""
    notes: list[str] = []
    exif: tags.Folders = {}
    if source.exif:
        try:
            found = tags.read(source.exif)
            exif = _without_settings(tags.cleaned(found.folders, size, srgb=srgb))
            if not found.whole:
                notes.append("what of its EXIF is broken is left out")
        except ValueError:
            notes.append("its EXIF is broken and left out")
    try:
        packet = xmp.packet(source.xmp, size, marked=marked)
    except ValueError as problem:
        notes.append(f"its XMP is left out ({problem})")
        packet = xmp.packet(b"", size, marked=marked)
    fields = b""
    if source.iptc:
        try:
            fields = iptc.fields_of(source.iptc)
        except ValueError as problem:
            notes.append(f"its IPTC is left out ({problem})")
    return Kept(exif, packet, fields, tuple(notes))


def _without_settings(folders: tags.Folders) -> tags.Folders:
    """Without what says how the input was made: the edit that is written is another one."""
    return {
        folder: {number: tag for number, tag in held.items() if not _is_of_an_edit(number, tag)}
        for folder, held in folders.items()
    }


def _is_of_an_edit(number: int, tag: tags.Tag) -> bool:
    return number in (tags.USER_COMMENT, _DESCRIPTION) and is_settings(comment_text(tag.raw))


def within(source: Kept, *, exif: int, xmp_most: int, iptc_most: int, format: str) -> Kept:
    """What fits into a format that has so many bytes for each."""
    notes = list(source.notes)
    room = tags.fitted(source.exif, max(0, exif))
    if sum(map(len, room.values())) < sum(map(len, source.exif.values())):
        notes.append(
            f"some of its EXIF is too long for {format} and left out"
            if exif
            else f"its EXIF has no place in {format} and is left out"
        )
    packet, fields = source.xmp, source.iptc
    if len(packet) > xmp_most:
        notes.append(f"its XMP is too long for {format} and left out")
        packet = xmp.packet(b"", (1, 1), marked=xmp.DIGITAL_SOURCE_TYPE.encode() in packet)
    if len(fields) > iptc_most:
        notes.append(f"its IPTC {'is too long for' if iptc_most else 'has no place in'} {format} and is left out")
        fields = b""
    return replace(source, exif=room, xmp=packet, iptc=fields, notes=tuple(notes))
