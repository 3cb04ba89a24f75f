"""TIFFs as scanners, cameras and programs of science write them: every layout gives the picture that was written."""

from __future__ import annotations

import itertools
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from helpers.cli import QUICK, one_line
from helpers.pngs import chunk
from PIL import Image

from sdedit_cli.cli.main import run
from sdedit_cli.errors import PictureError
from sdedit_cli.pictures.codec import Picture, read_picture

Y, X = np.mgrid[0:24, 0:40]
COLOURS = np.stack([X / 39, Y / 23, (X // 8 + Y // 8) % 2], -1)
CLEAR = (X + Y) / 62
PLANES = {
    "rgb": (COLOURS, {"photometric": "rgb"}),
    "rgba": (np.dstack([COLOURS, CLEAR]), {"photometric": "rgb", "extrasamples": ["unassalpha"]}),
    "rgb and more": (np.dstack([COLOURS, CLEAR]), {"photometric": "rgb", "extrasamples": ["unspecified"]}),
    "gray and alpha": (
        np.dstack([COLOURS[..., 0], CLEAR]),
        {"photometric": "minisblack", "extrasamples": ["unassalpha"]},
    ),
}


def written(path: Path, values: np.ndarray, **how: Any) -> Picture:
    tifffile.imwrite(path, values, **how)
    return read_picture(str(path), 100)


def off(picture: Picture, expected: np.ndarray) -> float:
    """How far the picture's own colours are from others in 0..1, in levels of 8 bits."""
    return float(np.abs(np.asarray(picture.colours or picture.rgb).astype(float) - expected * 255).max())


@pytest.mark.parametrize("packing", [None, "zlib"], ids=["plain", "deflate"])
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("name", PLANES)
def test_planes_are_read_as_pixels_are(folder: Path, name: str, bits: int, packing: str | None) -> None:
    values, how = PLANES[name]
    colours = values[..., :3] if values.shape[-1] > 2 else values[..., :1]
    compared = 0
    for order, planes in itertools.product("<>", (False, True)):
        numbers = np.round(values * (2**bits - 1)).astype(f"{order}u{bits // 8}")
        more = {"planarconfig": "separate" if planes else "contig", "byteorder": order, "compression": packing}
        picture = written(folder / "a.tif", np.moveaxis(numbers, -1, 0) if planes else numbers, **how, **more)
        assert off(picture, colours) <= 1, (order, planes)
        assert (picture.alpha is not None) == ("unassalpha" in how.get("extrasamples", []))
        if picture.alpha is not None:
            assert np.abs(np.asarray(picture.alpha) - CLEAR * 255).max() <= 1
        compared += 1
    assert compared == 4


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("packing", [None, "zlib"])
def test_signed_numbers_have_the_order_of_the_file(folder: Path, order: str, packing: str | None) -> None:
    gray = COLOURS[..., :1]
    numbers = np.round(gray[..., 0] * 32767).astype(f"{order}i2")
    picture = written(folder / "a.tif", numbers, photometric="minisblack", byteorder=order, compression=packing)
    assert off(picture, gray) <= 1
    assert not picture.notes


@pytest.mark.parametrize("turn", range(1, 9))
def test_numbers_of_sixteen_bits_are_turned_as_the_picture_is(folder: Path, turn: int) -> None:
    """What a mask keeps has all of them, and at its place."""
    numbers = np.round(COLOURS * 65535).astype(np.uint16)
    picture = written(folder / "a.tif", numbers, photometric="rgb", extratags=[(274, "H", 1, turn, True)])
    assert picture.fine is not None
    assert {one.size for one in picture.fine} == {picture.rgb.size}
    fine = np.stack([np.asarray(one) for one in picture.fine[:3]], -1)
    assert np.abs(fine - np.asarray(picture.rgb)).max() <= 1


def directory(entries: list[tuple[int, int, int, int]]) -> bytes:
    return struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in entries) + bytes(4)


def test_a_pixel_of_many_numbers_costs_no_memory(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A file of few bytes, with 64 floating-point numbers a pixel: gigabytes when it is unfolded."""
    side, packed = 4096, zlib.compress(bytes(1 << 20))
    facts = {256: side, 257: side, 258: 32, 259: 8, 262: 2, 273: 400, 277: 64, 278: side, 279: len(packed), 339: 3}
    entries = [(tag, 4, 1, value) for tag, value in facts.items()]
    data = b"II*\0" + struct.pack("<I", 8) + directory(entries)
    Path("many.tif").write_bytes(data.ljust(400, b"\0") + packed)
    assert run(["run", "many.tif", "-p", "x", *QUICK, "-o", "out.png"]) == 3
    assert "64 numbers each" in one_line(capfd.readouterr().err)


@pytest.mark.parametrize("kind", ["dng", "preview", "canon"])
def test_the_preview_of_a_raw_picture_is_not_taken_for_it(
    folder: Path, kind: str, capfd: pytest.CaptureFixture[str]
) -> None:
    more = {"dng": {50706: 1025}, "preview": {330: 0}, "canon": {}}[kind]
    facts = {254: 1, 256: 16, 257: 12, 258: 8, 259: 1, 262: 1, 273: 400, 277: 1, 278: 12, 279: 192, **more}
    mark = b"CR\2\0\0\0\0\0" if kind == "canon" else b""
    head = b"II*\0" + struct.pack("<I", 8 + len(mark)) + mark
    Path("a.tif").write_bytes(
        (head + directory([(tag, 4, 1, value) for tag, value in facts.items()])).ljust(592, b"\0")
    )
    assert run(["run", "a.tif", "-p", "x", *QUICK, "-o", "out.png"]) == 3
    assert "raw picture of a camera" in one_line(capfd.readouterr().err)


@pytest.mark.parametrize("kind", [(2, 4, int.from_bytes(b"one\0", "little")), (12, 1, 600)], ids=["text", "double"])
def test_a_page_that_says_oddly_what_it_is_is_read(folder: Path, kind: tuple[int, int, int]) -> None:
    facts = {256: 16, 257: 12, 258: 8, 259: 1, 262: 1, 273: 400, 277: 1, 278: 12, 279: 192, 330: 0}
    entries = [(254, *kind), *((tag, 4, 1, value) for tag, value in facts.items())]
    whole = b"II*\0" + struct.pack("<I", 8) + directory(entries)
    Path("a.tif").write_bytes(whole.ljust(600, b"\0") + struct.pack("<d", 1.0))
    assert read_picture("a.tif", 100).rgb.size == (16, 12)


def test_a_first_page_that_is_a_smaller_copy_is_said_to_be_one(folder: Path) -> None:
    with tifffile.TiffWriter("a.tif") as file:
        file.write(np.zeros((12, 16, 3), np.uint8), photometric="rgb", subfiletype=1)
        file.write(np.zeros((48, 64, 3), np.uint8), photometric="rgb")
    assert any("a smaller copy of another" in note for note in read_picture("a.tif", 100).notes)


def paged(count: int, last: int = 0, *, order: str = "<", big: bool = False) -> bytes:
    """A TIFF of a picture and pages of no tags behind it; the last one is followed by `last`."""
    tifffile.imwrite("base.tif", COLOURS.astype(np.float32)[..., 0], byteorder=order, bigtiff=big)
    data = bytearray(Path("base.tif").read_bytes())
    place, entry, number, link = (8, 20, f"{order}Q", f"{order}Q") if big else (4, 12, f"{order}H", f"{order}I")
    (at,) = struct.unpack_from(link, data, place)
    (entries,) = struct.unpack_from(number, data, at)
    page = struct.calcsize(number) + struct.calcsize(link)
    begin = len(data) + len(data) % 2
    struct.pack_into(link, data, at + struct.calcsize(number) + entries * entry, begin if count > 1 else last)
    pages = [struct.pack(number, 0) + struct.pack(link, begin + page * n) for n in range(1, count - 1)]
    pages += [struct.pack(number, 0) + struct.pack(link, last)] if count > 1 else []
    return bytes(data.ljust(begin, b"\0")) + b"".join(pages)


# A big one in the other order Pillow does not open, and tifffile tells nothing of further pages.
@pytest.mark.parametrize(("order", "big"), [("<", False), (">", False), ("<", True)])
@pytest.mark.parametrize(
    ("count", "last", "told"),
    [
        (1, 0, ""),
        (3, 0, "has 3 frames; the first is edited"),
        (3, 1 << 30, "has 3 frames; the first is edited"),
        (3000, 0, "has more than 1000 frames; the first is edited"),
    ],
    ids=["one", "some", "beyond the end", "many"],
)
def test_pages_are_counted_as_far_as_they_go(
    folder: Path, count: int, last: int, told: str, order: str, big: bool
) -> None:
    Path("a.tif").write_bytes(paged(count, last, order=order, big=big))
    assert [note for note in read_picture("a.tif", 100).notes if "frames" in note] == ([told] if told else [])


def test_a_page_beyond_all_files_is_none(folder: Path) -> None:
    Path("a.tif").write_bytes(paged(3, (1 << 64) - 8, big=True))
    assert "has 3 frames; the first is edited" in read_picture("a.tif", 100).notes


def test_pages_in_a_circle_are_counted_once(folder: Path) -> None:
    (at,) = struct.unpack_from("<I", paged(1), 4)
    Path("a.tif").write_bytes(paged(2, at))
    assert "has 2 frames; the first is edited" in read_picture("a.tif", 100).notes


def boxed(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(body), kind) + body


def unfolding(kind: str) -> bytes:
    """A picture of 60000 x 60000 pixels, with something before its header."""
    if kind == "png":
        head = struct.pack(">IIBBBBB", 60000, 60000, 8, 0, 0, 0, 0)
        body = zlib.compress(bytes(1 << 16))
        small = chunk(b"IHDR", struct.pack(">IIBBBBB", 16, 16, 8, 0, 0, 0, 0))
        chunks = chunk(b"prVt", bytes(8)) + small + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")
        return b"\x89PNG\r\n\x1a\n" + chunks
    sides = struct.pack(">HH8IH", 41, 0, 60000, 60000, 0, 0, 60000, 60000, 0, 0, 1)
    stream = b"\xff\x4f\xff\x51" + sides + b"\7\1\1"
    if kind == "j2k":
        return stream
    head = boxed(b"ihdr", struct.pack(">IIHBBBB", 60000, 60000, 1, 7, 7, 0, 0)) + boxed(b"colr", b"\1\0\0\0\0\0\x11")
    begin = boxed(b"jP  ", b"\r\n\x87\n") + boxed(b"ftyp", b"jp2 \0\0\0\0jp2 ")
    return begin + boxed(b"xml ", b" " * 2048) + boxed(b"jp2h", head) + boxed(b"jp2c", stream)


@pytest.mark.parametrize(("icon", "kind"), [("ico", "png"), ("icns", "png"), ("icns", "j2k"), ("icns", "jp2")])
def test_pictures_inside_icons_are_measured_before_they_are_unfolded(folder: Path, icon: str, kind: str) -> None:
    """Pillow decodes them on opening, whatever size the icon says."""
    inner = unfolding(kind)
    whole = b"icns" + struct.pack(">I", 16 + len(inner)) + b"ic09" + struct.pack(">I", 8 + len(inner)) + inner
    if icon == "ico":
        whole = struct.pack("<HHH", 0, 1, 1) + struct.pack("<BBBBHHII", 32, 32, 0, 0, 1, 32, len(inner), 22) + inner
    Path("a.ico").write_bytes(whole)
    with pytest.raises(PictureError, match="holds a picture of 60000 x 60000 pixels"):
        read_picture("a.ico", 100)


def test_a_picture_in_an_icon_that_says_its_size_too_late_is_refused(folder: Path) -> None:
    inner = b"\x89PNG\r\n\x1a\n" + chunk(b"prVt", b"") * 300 + unfolding("png")[8:]
    Path("a.ico").write_bytes(
        struct.pack("<HHHBBBBHHII", 0, 1, 1, 32, 32, 0, 0, 1, 32, len(inner), 22) + inner,
    )
    with pytest.raises(PictureError, match="more than 256 chunks before its pixels"):
        read_picture("a.ico", 100)


@pytest.mark.parametrize("ending", ["ico", "icns"])
def test_ordinary_icons_are_read(folder: Path, ending: str) -> None:
    picture = Image.fromarray(np.uint8(np.random.default_rng(0).integers(0, 255, (64, 64, 3))))
    picture.save(f"a.{ending}")
    assert min(read_picture(f"a.{ending}", 100).rgb.size) >= 48
