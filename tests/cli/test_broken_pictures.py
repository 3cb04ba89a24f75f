"""Pictures that are broken or made to do harm: the picture without what is broken, or one line that says why not."""

from __future__ import annotations

import ast
import io
import re
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from helpers.bounded import in_memory
from helpers.pngs import chunk, png
from PIL import Image, ImageCms

import sdedit_cli
from sdedit_cli.cli.main import run
from sdedit_cli.errors import PictureError
from sdedit_cli.options import Edit
from sdedit_cli.pictures.carriers import find
from sdedit_cli.pictures.codec import MOST_SCANS, Picture, read_picture
from sdedit_cli.pictures.containers import MAX_UNFOLDED, taken_apart
from sdedit_cli.pictures.prepared import prepared

PIXELS = np.tile(np.array([0x60, 0x80, 0xA0], np.uint8), (4, 8))


def read(path: Path) -> Picture:
    return read_picture(str(path), 100)


@pytest.mark.parametrize(
    "data", [b"\xff" * 20, b"GIF89a", b"8BPS", b"RIFF\x10", b"\xff\xd8\xff", b"\xc3" * 9], ids=repr
)
def test_no_more_than_the_first_bytes_of_a_picture_are_no_text(folder: Path, data: bytes) -> None:
    (folder / "a.png").write_bytes(data)
    with pytest.raises(PictureError, match="cannot be read as a picture"):
        read(folder / "a.png")


@pytest.mark.parametrize(
    "data",
    [
        png(PIXELS, 8, 3),  # a palette is missing: Pillow's decoder gives no reason
        png(PIXELS, 8, 2, chunk(b"acTL", struct.pack(">II", 2, 0)), after=chunk(b"fcTL", bytes(26))),
    ],
    ids=["palette", "frames"],
)
def test_a_refusal_gives_a_reason_and_no_address(folder: Path, data: bytes) -> None:
    (folder / "a.png").write_bytes(data)
    with pytest.raises(PictureError) as refused:
        prepared("a.png", 100, Edit(frames="all"))
    assert re.fullmatch(r"a\.png: [^(]+\([^()]{4,}(\([^()]+\))?\).*", str(refused.value))
    assert "0x" not in str(refused.value)


def test_texts_of_one_file_unfold_into_so_much_together(folder: Path) -> None:
    """Each is below what one may have; all of them are not kept."""
    many = [chunk(b"zTXt", f"k{n}\0\0".encode() + zlib.compress(bytes(20 << 20), 9)) for n in range(4)]
    parts = taken_apart(png(PIXELS, 8, 2, *many, chunk(b"zTXt", b"parameters\0\0" + zlib.compress(b"Steps: 12"))))
    assert parts is not None
    assert sum(map(len, parts.texts.values())) <= MAX_UNFOLDED
    assert parts.texts["parameters"] == "Steps: 12"
    assert parts.left_out == ("a chunk of the kind zTXt that cannot be read",)


def test_of_many_broken_chunks_a_few_are_named(folder: Path) -> None:
    kinds = [bytes((97 + n % 26, 65 + n // 26 % 26, 65 + n // 676, 97)) for n in range(5000)]
    (folder / "a.png").write_bytes(png(PIXELS, 8, 2, *(bytes(4) + kind + bytes(4) for kind in [*kinds, *kinds])))
    notes = read(folder / "a.png").notes
    assert notes[0] == "left out is a chunk of the kind aAAa with a wrong checksum"
    assert notes[8:] == ("left out is what else stands broken beside its pixels",)


def test_what_follows_the_end_of_a_png_is_none_of_it(folder: Path) -> None:
    """Some programs write a shorter picture over the file of a longer one."""
    rest = b"x" * 40 + chunk(b"tEXt", b"parameters\0Steps: 12")
    for extra in (rest, rest[40:]):
        (folder / "a.png").write_bytes(png(PIXELS, 8, 2) + extra)
        parts = taken_apart((folder / "a.png").read_bytes())
        assert parts is not None
        assert parts.texts == {}
        assert read(folder / "a.png").notes == ()


def test_an_animation_of_more_frames_than_there_may_be_is_a_picture(folder: Path) -> None:
    (folder / "a.png").write_bytes(png(PIXELS, 8, 2, chunk(b"acTL", struct.pack(">II", 2**32 - 1, 0))))
    picture = prepared("a.png", 100, Edit(frames="all"))
    assert picture.film is None
    assert picture.notes == ("left out is a chunk of the kind acTL that cannot be read",)


def test_of_a_gif_that_breaks_off_the_first_frame_is_edited(folder: Path) -> None:
    frames = [Image.new("RGB", (64, 48), (60 * n, 90, 0)) for n in range(4)]
    frames[0].save(folder / "a.gif", save_all=True, append_images=frames[1:], duration=50)
    whole, broken = (folder / "a.gif").read_bytes(), 0
    for length in range(len(whole) // 3, len(whole), 7):
        (folder / "a.gif").write_bytes(whole[:length])
        try:
            picture = read(folder / "a.gif")
        except PictureError:  # in its first frame
            assert not broken
            continue
        assert (np.asarray(picture.rgb) == np.asarray(frames[0])).all()
        broken += "is damaged behind its first frame; the first is edited" in picture.notes
    assert broken > 3


def cut(icc: bytes) -> list[bytes]:
    """A profile without its end, without its table of contents, and with tags beyond its end."""
    return [icc[:200], icc[:130], icc[:128] + b"\xff" * 4 + icc[132:], icc[:136] + b"\xff" * 4 + icc[140:]]


@pytest.mark.parametrize("format", ["png", "jpeg", "webp", "tiff"])
def test_a_profile_without_all_of_its_tags_is_not_passed_on(folder: Path, format: str) -> None:
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for kept, profile in [(True, icc), (True, icc + bytes(3)), *((False, one) for one in cut(icc))]:
        Image.new("RGB", (64, 32), (120, 90, 60)).save(folder / f"a.{format}", icc_profile=profile)
        got = read(folder / f"a.{format}")
        assert got.icc == (profile if kept else None)
        assert any("profile is cut short" in note for note in got.notes) != kept


@pytest.mark.skipif(sys.platform == "win32", reason="libtiff is not reached through Pillow's module there")
def test_a_broken_tiff_has_one_line_and_none_of_libtiff(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """libtiff writes to the descriptor of stderr, past whatever Python puts there."""
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "a.tif", compression="tiff_lzw")
    data = bytearray((folder / "a.tif").read_bytes())
    for place in range(2000, 6000, 7):
        data[place] ^= 0x55
    (folder / "a.tif").write_bytes(data)
    assert run(["run", "a.tif", "-p", "x", "-q"]) == 3
    (line,) = capfd.readouterr().err.splitlines()
    assert "a.tif: is damaged or cut short" in line


def fields(inner: bytes) -> bytes:
    """A stream of IPTC fields, one of which holds another file that Pillow would open, whatever it is."""
    head = [(3, 60, b"\1\0"), (3, 20, b"\0\x40"), (3, 30, b"\0\x40"), (3, 120, b"\5"), (8, 10, inner), (9, 10, b"")]
    return b"".join(struct.pack(">BBBH", 0x1C, *at, len(body)) + body for *at, body in head)


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n%%EndComments\nshowpage\n%%EOF\n"
IM = b"Image type: L image\r\n%s\r\n"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (fields(EPS), "a stream of IPTC fields"),
        (fields(png(PIXELS, 8, 2)), "a stream of IPTC fields"),
        (b"BLP1" + bytes(2000), "a BLP texture"),
        (b"SIMPLE  =                    T".ljust(2880), "a FITS picture"),
        ((IM % b"Image size (x*y): 8*8").ljust(511, b"\0") + b"\x1a" + bytes(64), "IM"),
        ((IM % b"Image size (x*y): 8*8*8").ljust(511, b"\0") + b"\x1a" + bytes(512), "IM"),
        (struct.pack(">IIIII", 28, 2, 8, 8, 1) + b"GIMP\0\0\0\1" + bytes(64), "a GIMP brush"),
        (b"GRIB" + bytes(60), "a GRIB file"),
    ],
    ids=["program in fields", "picture in fields", "BLP", "FITS", "IM", "IM of three sides", "GBR", "GRIB"],
)
def test_what_may_hold_anything_and_what_nobody_edits_is_not_read(folder: Path, data: bytes, words: str) -> None:
    (folder / "a.png").write_bytes(data)
    with pytest.raises(PictureError, match=rf"a\.png: is .*{words}.* not read; expected .*; convert it to PNG first$"):
        read(folder / "a.png")


def test_pillow_is_told_which_formats_to_read_wherever_it_is_asked() -> None:
    for path in Path(sdedit_cli.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "Image.open":
                assert "formats" in {one.arg for one in node.keywords}, path


@pytest.mark.parametrize("said", [(8, 8, 8), (8.5, 8)], ids=str)
def test_a_size_that_is_none_is_one_files_fault(
    folder: Path, said: tuple[float, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some of Pillow's readers hand on what a file says of its size as it stands there."""
    from PIL.PpmImagePlugin import PpmImageFile

    monkeypatch.setattr(PpmImageFile, "_open", lambda image: vars(image).update(_size=said, _mode="RGB"))
    (folder / "a.png").write_bytes(b"P6 8 8 255\n" + bytes(192))
    with pytest.raises(PictureError, match=r"a\.png: cannot be read as a picture .it does not say its width"):
        read(folder / "a.png")


def bitmap(width: int, height: int, rows: bytes) -> bytes:
    """A BMP of 8 bits packed by run lengths."""
    palette = bytes(1024)
    head = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(rows), 0, 0, 256, 0)
    return b"BM" + struct.pack("<IHHI", 1078 + len(rows), 0, 0, 1078) + head + palette + rows


def test_run_lengths_are_unpacked_as_far_as_that_is_quick(folder: Path) -> None:
    (folder / "a.bmp").write_bytes(bitmap(8, 2, b"\x08\1\0\0\x08\2\0\1"))
    assert read(folder / "a.bmp").rgb.size == (8, 2)
    (folder / "a.bmp").write_bytes(bitmap(4000, 3000, b"\0\0" * 3000 + b"\0\1"))
    with pytest.raises(PictureError, match=r"run lengths.* 4000 x 3000 pixels .* of 10 megapixels; save it as PNG"):
        read(folder / "a.bmp")


def test_a_tile_is_no_larger_than_a_picture_may_be(folder: Path) -> None:
    packed = zlib.compress(bytes(1000)).ljust(100, b"\0")
    values = {256: 16, 257: 16, 258: 8, 259: 8, 262: 1, 277: 1, 322: 40000, 323: 40000, 324: 8, 325: 100}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in values.items())
    table = struct.pack("<H", len(values)) + entries + bytes(4)
    (folder / "a.tif").write_bytes(b"II*\0" + struct.pack("<I", 108) + packed + table)
    with pytest.raises(PictureError, match="tiles of 40000 x 40000 pixels"):
        read(folder / "a.tif")


@pytest.mark.parametrize(
    "head",
    [
        struct.pack("<IHHHH", 12, 60000, 60000, 1, 8),
        struct.pack("<IIIHH", 40, 60000, 120000, 1, 8),
        struct.pack("<IIIHH", 40, 1, 0xFE000000, 1, 8),
        struct.pack("<IIIHHI", 40, 9000, 18000, 1, 8, 1),
    ],
    ids=["old", "plain", "neither above nor below 0", "run lengths"],
)
def test_bitmaps_in_icons_are_measured_as_they_are_read(folder: Path, head: bytes) -> None:
    inner = head.ljust(200, b"\0")
    entry = struct.pack("<BBBBHHII", 32, 32, 0, 0, 1, 8, len(inner), 22)
    (folder / "a.ico").write_bytes(struct.pack("<HHH", 0, 1, 1) + entry + inner)
    with pytest.raises(PictureError, match=r"holds a (picture of|bitmap packed by run lengths)"):
        read(folder / "a.ico")


def frame(width: int, height: int) -> bytes:
    """A frame of a GIF that is to be cleared before the next one."""
    return b"!\xf9\4\x08\0\0\0\0," + struct.pack("<4HB", 0, 0, width, height, 0) + b"\2\2L\1\0"


# Pillow takes the comma for the length of a block; who takes it for a frame does not see the one behind it.
HIDDEN = b"!\xf9\0," + struct.pack("<4HB", 0, 0, 8, 4, 0) + b"\2\xff" + bytes(33)
FRAMES = {
    "the first": frame(60000, 60000),
    "a later one": frame(8, 4) + frame(60000, 60000),
    "two together": frame(60000, 1) + frame(1, 60000),
    "behind an empty block": HIDDEN + b"\0" + frame(60000, 60000) + bytes(255),
    "behind turns that are not said": b"!\xff\x0bNETSCAPE2.0\0" + HIDDEN[3:] + b"\0" + frame(60000, 60000) + bytes(255),
}


@pytest.mark.parametrize("frames", FRAMES.values(), ids=FRAMES)
def test_frames_of_a_gif_are_measured_before_there_is_room_made_for_them(folder: Path, frames: bytes) -> None:
    head = b"GIF89a" + struct.pack("<HHBBB", 8, 4, 0x80, 0, 0) + bytes(3) + b"\xff" * 3
    (folder / "a.gif").write_bytes(head + frames + b";")
    for look in (read, find):
        with pytest.raises(PictureError, match="frame that reaches to 60000 x 60000 pixels"), in_memory(500_000_000):
            look(folder / "a.gif")


def test_a_jpeg_goes_over_its_pixels_so_often_and_no_more(folder: Path) -> None:
    """A scan of a hundred million pixels may have a hundred bytes."""
    Image.new("RGB", (16, 16), "red").save(
        buffer := io.BytesIO(), "jpeg", progressive=True, exif=b"Exif\0\0\xff\xda" * 99
    )
    body, last = buffer.getvalue()[:-2].rsplit(b"\xff\xda", 1)
    own = body.count(b"\xff\xda") - 99
    for more in (MOST_SCANS - own, MOST_SCANS - own + 1):
        (folder / "a.jpg").write_bytes(body + (b"\xff\xda" + last) * more + b"\xff\xd9" + b"\xff\xda" * 99)
        if own + more <= MOST_SCANS:
            assert read(folder / "a.jpg").rgb.size == (16, 16)
            continue
        with pytest.raises(PictureError, match=r"a\.jpg: is a JPEG of 101 scans, .* at most 100: save it anew"):
            read(folder / "a.jpg")


def test_the_canvas_of_a_webp_is_measured_before_there_is_room_made_for_it(folder: Path) -> None:
    stills = [Image.new("RGB", (8, 4), colour) for colour in ("red", "blue")]
    stills[0].save(buffer := io.BytesIO(), "webp", save_all=True, append_images=stills[1:])
    data = bytearray(buffer.getvalue())
    data[24:30] = struct.pack("<I", 59999)[:3] * 2
    (folder / "a.webp").write_bytes(data)
    for look in (read, find):
        with pytest.raises(PictureError, match="holds a picture of 60000 x 60000 pixels"):
            look(folder / "a.webp")


def test_who_only_looks_at_a_gif_is_held_to_the_limit_that_is_set(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = Image.new("L", (1200, 1000))
    image.save(folder / "a.gif", comment=b"a cat\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 5, Size: 64x64")
    assert find(folder / "a.gif").layer.values["seed"] == 5
    monkeypatch.setenv("SDEDIT_MAX_MEGAPIXELS", "1")
    with pytest.raises(PictureError, match="over the limit of 1 megapixels"):
        find(folder / "a.gif")
