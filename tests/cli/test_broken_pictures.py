"""Pictures that are broken or made to do harm: the picture without what is broken, or one line that says why not."""

from __future__ import annotations

import re
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from helpers.pngs import chunk, png
from PIL import Image, ImageCms

from sdedit_cli.cli.main import run
from sdedit_cli.errors import PictureError
from sdedit_cli.options import Edit
from sdedit_cli.pictures.codec import Picture, read_picture
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
