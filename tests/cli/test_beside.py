"""What stands beside the pixels of an input, and holds for its edit, is kept; what does not hold any more is not.

Read back with Pillow always, and with exiftool, which shares no line with either, where it is installed.
"""

from __future__ import annotations

import io
import json
import shutil
import struct
import subprocess
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.cli import QUICK, photo
from PIL import Image, features
from PIL.TiffImagePlugin import IFDRational

from sdedit_cli.cli.main import run
from sdedit_cli.options import Edit, edit_from
from sdedit_cli.pictures import beside, iptc, tags, xmp
from sdedit_cli.pictures.beside import NOTHING, Beside
from sdedit_cli.pictures.carriers import carried, find
from sdedit_cli.pictures.codec import read_picture
from sdedit_cli.pictures.encode import encode
from sdedit_cli.pictures.record import Record

LIMIT = 100.0
EDIT = Edit(prompt="a cat", seed=5, steps=20)
RECORD = Record(EDIT.saved(), 64, 48, version="1")
OLD = "an old edit\nSteps: 12, Sampler: Euler a, CFG scale: 7, Seed: 42"
AVIF = pytest.param("avif", marks=pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF"))
INPUTS = ["png", "jpeg", "webp", "tiff", AVIF]
OUTPUTS = ["png", "jpeg", "webp", AVIF]
exiftool = pytest.mark.skipif(shutil.which("exiftool") is None, reason="exiftool is not installed")

PACKET = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:tiff="http://ns.adobe.com/tiff/1.0/" xmlns:xmp="http://ns.adobe.com/xap/1.0/"
 xmlns:exif="http://ns.adobe.com/exif/1.0/" xmlns:dc="http://purl.org/dc/elements/1.1/"
 xmlns:dcterms="http://purl.org/dc/terms/" xmlns:GCamera="http://ns.google.com/photos/1.0/camera/"
 xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
 tiff:Orientation="6" xmp:Rating="4" dcterms:provenance="self#jumbf=/c2pa/urn" GCamera:MotionPhoto="1"
 Iptc4xmpExt:DigitalSourceType="http://cv.iptc.org/newscodes/digitalsourcetype/digitalCapture">
<exif:PixelXDimension>9999</exif:PixelXDimension>
<dc:creator><rdf:Seq><rdf:li>Ann &amp; Bo Müller</rdf:li></rdf:Seq></dc:creator>
<xmp:Thumbnails><rdf:Alt><rdf:li>STALE THUMBNAIL</rdf:li></rdf:Alt></xmp:Thumbnails>
</rdf:Description></rdf:RDF></x:xmpmeta>
<?xpacket end="w"?>""".encode()
FIELDS = b"".join(
    struct.pack(">BBBH", 0x1C, 2, number, len(text)) + text
    for number, text in ((105, b"A headline"), (80, b"Ann"), (202, b"STALE PREVIEW"))
)


def camera(order: str = "<", turned: int = 6) -> bytes:
    """EXIF as a camera writes it: with place, a thumbnail, notes of its maker, and our own old settings."""
    exif = Image.Exif()
    exif.endian = order
    exif[0x010F], exif[0x0110], exif[0x013B], exif[0x0112], exif[0x0131] = "Maker", "Model 1", "Ann", turned, "Darkroom"
    exif[0x010E] = OLD
    exif.get_ifd(0x8769).update(
        {0x829A: IFDRational(1, 250), 0x9003: "2024:01:02 03:04:05", 0x9204: IFDRational(-1, 3), 0xA002: 9999}
    )
    exif.get_ifd(0x8769)[0x927C] = b"sdedit\0{old}"
    exif.get_ifd(0x8825).update({1: "N", 2: (52.0, 30.0, 0.0), 3: "E", 4: (13.0, 22.0, 0.0)})
    block = bytearray(exif.tobytes())
    # The chain leads on to a thumbnail: a folder behind the first.
    at = 6 + 8 + 2 + 12 * struct.unpack_from(f"{order}H", block, 14)[0]
    struct.pack_into(f"{order}I", block, at, len(block) - 6)
    return bytes(block) + struct.pack(f"{order}HHHIII", 1, 0x0202, 4, 1, 15, 0) + b"STALE THUMBNAIL"


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def source(path: Path, block: bytes = b"", packet: bytes = PACKET, fields: bytes = FIELDS) -> Path:
    """A picture with all that may stand beside pixels, and a manifest of C2PA that holds for it alone."""
    kind, buffer = path.suffix[1:], io.BytesIO()
    image = Image.open(photo(path.with_name("base.png"), (48, 64)))
    block = block or camera()
    manifest = b"STALE C2PA MANIFEST jumb c2pa"
    if kind == "tiff":
        info = Image.Exif()
        info.load(block)
        info[700], info[33723] = packet, fields
        image.save(path, exif=info)
        return path
    image.save(
        buffer, kind, **({"exif": block} if kind == "avif" else {}), **({"xmp": packet} if kind == "avif" else {})
    )
    data = buffer.getvalue()
    if kind == "png":
        more = chunk(b"eXIf", block[6:]) + chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + packet)
        more += chunk(b"tEXt", b"Raw profile type iptc\0" + iptc.raw_profile(fields).encode())
        more += chunk(b"caBX", manifest) + chunk(b"tEXt", b"parameters\0" + OLD.encode())
        data = data[:33] + more + data[33:]
    elif kind == "jpeg":
        bodies = [(0xE1, block), (0xE1, b"http://ns.adobe.com/xap/1.0/\0" + packet)]
        bodies += [(0xED, b"Photoshop 3.0\0" + iptc.resource(fields)), (0xEB, b"JP" + manifest)]
        data = data[:2] + b"".join(struct.pack(">BBH", 255, app, 2 + len(b)) + b for app, b in bodies) + data[2:]
    elif kind == "webp":
        image.save(buffer := io.BytesIO(), "webp", exif=block, xmp=packet)
        data = buffer.getvalue() + b"C2PA" + struct.pack("<I", len(manifest)) + manifest + b"\0"
        data = data[:4] + struct.pack("<I", len(data) - 8) + data[8:]
    path.write_bytes(data)
    return path


def edited(
    path: Path, format: str, record: Record | None = RECORD, strip: bool = False
) -> tuple[Path, tuple[str, ...]]:
    """The picture as an edit would write it, and the notes."""
    picture = read_picture(str(path), LIMIT)
    found = carried(record, format, NOTHING if strip else picture.beside, picture.rgb.size)
    out = path.with_name(f"out.{format}")
    out.write_bytes(encode(picture.rgb, None, None, format, found.arguments))
    return out, (*picture.notes, *found.notes)


def told(path: Path) -> dict[str, Any]:
    """What exiftool reads, by group and name; with it whatever it grumbles of."""
    command = ["exiftool", "-j", "-G1", "-a", "-struct", "-n", str(path)]
    return json.loads(subprocess.run(command, capture_output=True, check=True).stdout)[0]


def complaints(facts: dict[str, Any]) -> list[str]:
    """What exiftool grumbles of, but that it does not know our own notes."""
    found = [str(value) for key, value in facts.items() if key.endswith((":Warning", ":Error"))]
    return [text for text in found if "Unrecognized MakerNotes" not in text]


def packet_of(path: Path) -> bytes:
    with Image.open(path) as image:
        image.load()
        found = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp") or b""
        return found.encode() if isinstance(found, str) else found


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("given", INPUTS)
def test_what_holds_is_kept_and_what_does_not_is_gone(folder: Path, given: str, output: str) -> None:
    path = source(folder / f"in.{given}")
    out, notes = edited(path, output)
    assert [note for note in notes if "no place" not in note] == []
    assert any("IPTC has no place" in note for note in notes) == (
        output in ("webp", "avif") and given in ("png", "jpeg", "tiff")
    )
    with Image.open(out) as image:
        assert image.size == (64, 48)
        exif = image.getexif()
        assert (exif[0x010F], exif[0x013B], exif.get(0x0112, 1)) == ("Maker", "Ann", 1)
        inside, place = exif.get_ifd(0x8769), exif.get_ifd(0x8825)
        assert (float(inside[0x829A]), float(inside[0x9204]), inside[0xA002]) == (1 / 250, -1 / 3, 64)
        assert [float(one) for one in place[2]] == [52, 30, 0]
        assert exif.get_ifd(1) == {}
    assert b"STALE" not in out.read_bytes()
    packet = packet_of(out)
    assert "Ann &amp; Bo Müller".encode() in packet
    assert packet.count(xmp.DIGITAL_SOURCE_TYPE.encode()) == packet.count(b"DigitalSourceType>") / 2 == 1
    for stale in (b"digitalCapture", b"9999", b"provenance=", b"MotionPhoto=", b"Orientation"):
        assert stale not in packet
    found = find(out)
    assert found.exact
    assert edit_from([found.layer]) == EDIT
    assert edited(path, output)[0].read_bytes() == out.read_bytes()
    # What was written is an input like any other: a second edit loses nothing more.
    again = edited(out.rename(folder / f"second.{output}"), output)[0]
    assert packet_of(again) == packet


@exiftool
@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("given", ["jpeg", "png", "tiff"])
def test_exiftool_reads_what_was_kept_and_finds_nothing_stale(folder: Path, given: str, output: str) -> None:
    facts = told(edited(source(folder / f"in.{given}"), output)[0])
    assert facts["XMP-iptcExt:DigitalSourceType"] == xmp.DIGITAL_SOURCE_TYPE
    assert facts["XMP-dc:Creator"] == ["Ann & Bo Müller"]
    assert facts["XMP-xmp:Rating"] == 4
    assert facts["XMP-exif:ExifImageWidth"] == facts["ExifIFD:ExifImageWidth"] == 64
    assert facts["IFD0:Make"] == "Maker"
    assert facts["GPS:GPSLatitude"] == 52.5
    assert not any("Orientation" in name for name in facts)
    if output in ("png", "jpeg"):
        assert facts["IPTC:Headline"] == "A headline"
    names = " ".join(facts).lower()
    assert "jumbf" not in names
    assert "c2pa" not in names
    assert "thumbnail" not in names
    assert not complaints(facts)


@exiftool
@pytest.mark.parametrize("output", OUTPUTS)
def test_exiftool_reads_the_mark_in_a_picture_of_a_bare_input(folder: Path, output: str) -> None:
    facts = told(edited(photo(folder / "in.png"), output)[0])
    assert facts["XMP-iptcExt:DigitalSourceType"] == xmp.DIGITAL_SOURCE_TYPE
    assert not complaints(facts)


@pytest.mark.parametrize("output", OUTPUTS)
def test_without_metadata_nothing_of_ours_is_said(folder: Path, output: str) -> None:
    out, _ = edited(source(folder / "in.jpeg"), output, None)
    data = out.read_bytes()
    assert b"sdedit" not in data
    assert b"DigitalSourceType" not in data
    assert b"Steps: 12" not in data
    with Image.open(out) as image:
        assert image.getexif()[0x0131] == "Darkroom"
    out, _ = edited(photo(folder / "bare.png"), output, None)
    assert packet_of(out) == b""


def test_the_mark_of_a_picture_that_a_model_made_is_not_taken_off(folder: Path) -> None:
    made = PACKET.replace(b"digitalCapture", b"trainedAlgorithmicMedia")
    out, _ = edited(source(folder / "in.png", packet=made), "png", None)
    assert b"trainedAlgorithmicMedia" in packet_of(out)


@pytest.mark.parametrize("output", OUTPUTS)
def test_stripped_is_as_if_the_input_had_nothing_beside_its_pixels(folder: Path, output: str) -> None:
    first = edited(source(folder / "in.png"), output, strip=True)[0].read_bytes()
    bare = Image.open(folder / "in.png")
    bare = bare.transpose(Image.Transpose.ROTATE_270)
    Image.frombytes("RGB", bare.size, bare.tobytes()).save(folder / "bare.png")
    assert edited(folder / "bare.png", output)[0].read_bytes() == first


def many(count: int, length: int) -> bytes:
    """A folder whose tags all name the same bytes, which are as many as there can be."""
    entry = b"".join(struct.pack(">HHII", 1000 + n, 2, length, 26) for n in range(count))
    return b"MM\0*" + struct.pack(">IH", 8, count) + entry + bytes(4) + b"x" * (length + 26)


ITSELF = struct.pack(">HHII", 0x8769, 4, 1, 8)
BOMB = b'<!DOCTYPE a [<!ENTITY b "xx">]>' + PACKET
DEEP = PACKET.replace(b"Ann &amp; Bo", b"<a>" * 19_000 + b"</a>" * 19_000)
MANY = PACKET.replace(b"Ann &amp; Bo", b"<a " + b" ".join(b"b%d='1'" % n for n in range(50_000)) + b"/>")
HOSTILE: dict[str, tuple[Callable[[], dict[str, bytes]], str]] = {
    "EXIF that is none": (lambda: {"block": b"Exif\0\0no EXIF at all"}, "EXIF"),
    "EXIF of one byte": (lambda: {"block": b"Exif\0\0M"}, "EXIF"),
    "a folder cut short": (lambda: {"block": b"Exif\0\0MM\0*\0\0\0\x08\0\5\1\x0f"}, "EXIF"),
    "a folder nowhere": (lambda: {"block": b"Exif\0\0MM\0*\xff\xff\xff\xff"}, "EXIF"),
    "a folder in itself": (
        lambda: {"block": b"Exif\0\0MM\0*\0\0\0\x08\0\1\x87\x69\0\4\0\0\0\1\0\0\0\x08" + bytes(4)},
        "",
    ),
    "tags of all the same bytes": (lambda: {"block": b"Exif\0\0" + many(60, 60_000)}, "EXIF"),
    "XMP that is none": (lambda: {"packet": b"not XML"}, "XMP"),
    "XMP cut short": (lambda: {"packet": PACKET[:-300]}, "XMP"),
    "XMP with entities": (lambda: {"packet": BOMB}, "XMP"),
    "XMP too deep": (lambda: {"packet": DEEP}, "XMP"),
    "XMP too large": (lambda: {"packet": PACKET.replace(b"Ann", b"A" * (1 << 20))}, "XMP"),
    "XMP of too many attributes": (lambda: {"packet": MANY}, "XMP"),
    "XMP without RDF": (lambda: {"packet": b"<a/>"}, "XMP"),
    "XMP in two bytes a character": (lambda: {"packet": PACKET.decode().encode("utf-16")}, "XMP"),
    "IPTC that is none": (lambda: {"fields": b"not IPTC"}, "IPTC"),
    "IPTC cut short": (lambda: {"fields": FIELDS[:-3]}, "IPTC"),
    "IPTC of endless length": (lambda: {"fields": b"\x1c\2\x69\x80\x04\xff\xff\xff\xff"}, "IPTC"),
}


@pytest.mark.parametrize("output", ["png", "jpeg"])
@pytest.mark.parametrize("name", HOSTILE)
def test_nothing_beside_the_pixels_costs_a_picture(folder: Path, name: str, output: str) -> None:
    made, word = HOSTILE[name]
    out, notes = edited(source(folder / "in.png", **made()), output)
    assert bool(word) == any(word in note for note in notes), notes
    assert find(out).exact
    assert packet_of(out).count(xmp.DIGITAL_SOURCE_TYPE.encode()) == 1
    assert len(out.read_bytes()) < 3 << 20


def test_what_is_too_long_for_a_jpeg_goes_before_the_settings_do(folder: Path) -> None:
    long = camera().replace(b"Maker", b"M" * 5)
    exif = Image.Exif()
    exif.load(long)
    exif[0x010D], exif[0x010F] = "x" * 50_000, "Maker"
    big = PACKET.replace(b"Ann", b"A" * 70_000)
    path = source(folder / "in.png", exif.tobytes(), big, FIELDS + struct.pack(">BBBH", 28, 2, 120, 9000) * 1)
    record = Record(Edit(prompt="word " * 3000, seed=1).saved(), 64, 48)
    out, notes = edited(path, "jpeg", record)
    assert find(out).exact
    assert any("EXIF is too long for jpeg" in note for note in notes)
    assert any("XMP is too long for jpeg" in note for note in notes)
    with Image.open(out) as image:
        assert image.getexif()[0x010F] == "Maker"


@pytest.mark.parametrize("order", ["<", ">"])
def test_tags_are_the_same_after_they_were_written(order: str) -> None:
    found = tags.read(camera(order, turned=1))
    assert found.whole
    again = tags.read(tags.written(found.folders))
    assert again.folders == found.folders
    assert tags.size_of(found.folders) >= len(tags.written(found.folders))
    assert tags.written({}) == b""


def test_the_command_line_keeps_strips_and_says_nothing_on_request(folder: Path) -> None:
    source(folder / "in.jpeg")
    runs: dict[str, list[str]] = {"kept": [], "stripped": ["--strip"], "silent": ["--no-metadata"]}
    for name, more in runs.items():
        assert run(["run", "in.jpeg", *QUICK, "-p", "a cat", "-q", "-o", f"{name}.jpg", *more]) == 0
    makers, pixels = [], []
    for name in runs:
        with Image.open(f"{name}.jpg") as image:
            makers.append(image.getexif().get(0x010F))
            pixels.append(image.tobytes())
    assert makers == ["Maker", None, "Maker"]
    assert [b"DigitalSourceType" in packet_of(folder / f"{name}.jpg") for name in runs] == [True, True, False]
    assert find("stripped.jpg").exact
    assert len(set(pixels)) == 1


def test_beside_is_nothing_where_nothing_is(folder: Path) -> None:
    assert read_picture(str(photo(folder / "a.bmp")), LIMIT).beside == Beside()
    assert beside.kept(NOTHING, (1, 1), marked=False) == beside.Kept({}, b"", b"")


def test_many_tags_that_name_the_same_bytes_are_not_copied_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """A megabyte that thousands of tags claim as theirs is taken once, and the rest of the block is said to be lost."""
    count, length = 5000, tags.MAX_BYTES * 3 // 4
    entries = b"".join(struct.pack("<HHII", 30000 + n, 7, length, 10 + 12 * count + 4) for n in range(count))
    block = b"II*\0" + struct.pack("<IH", 8, count) + entries + bytes(4 + length)
    copies: list[int] = []

    def counted(raw: bytes, unit: int, order: str) -> bytes:
        copies.append(len(raw))
        return raw

    monkeypatch.setattr(tags, "_big_endian", counted)
    found = tags.read(block)
    assert copies == [length]
    assert not found.whole
