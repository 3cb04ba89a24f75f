"""Every mode, size and kind of file: the right picture, or a refusal in words."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers.cli import photo
from PIL import Image

from sdedit_cli.errors import PictureError
from sdedit_cli.options import Edit
from sdedit_cli.pictures.encode import encode
from sdedit_cli.pictures.prepared import prepared

MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "I", "I;16", "F")
KINDS = ("png", "tiff", "jpeg", "webp", "gif", "bmp", "tga", "ppm", "jp2", "sgi", "pcx", "dds", "qoi", "avif")
DEEP = ("png", "tiff")  # into the others Pillow writes deep numbers cut off at 255
SIZES = ((1, 1), (1, 7), (7, 1), (3, 3), (4000, 40), (40, 4000), (127, 65))
GRAY = ("1", "L", "LA", "I", "I;16", "F")


def in_mode(base: Image.Image, mode: str) -> Image.Image:
    gray = np.asarray(base.convert("L"))
    if mode == "I":
        return Image.fromarray(gray.astype(np.int32) * 257)
    if mode == "I;16":
        return Image.fromarray(gray.astype(np.uint16) * 257)
    if mode == "F":
        return Image.fromarray(gray.astype(np.float32) / 255)
    return base.convert("P").convert(mode) if mode == "PA" else base.convert(mode)


def means(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("RGB")).reshape(-1, 3).astype(float).mean(0)


def test_every_mode_in_every_format_that_holds_it(folder: Path) -> None:
    base = Image.open(photo(folder / "base.png"))
    read: list[str] = []
    for mode in MODES:
        image, expected = in_mode(base, mode), base.convert("L") if mode in GRAY else base
        for kind in KINDS if mode not in ("I", "I;16", "F") else DEEP:
            path = folder / f"{mode.replace(';', '')}.{kind}"
            try:
                image.save(path, kind.replace("jp2", "jpeg2000"))
            except (OSError, KeyError, ValueError):
                continue  # Pillow does not write it
            picture = prepared(str(path), 100, Edit())
            assert picture.rgb.mode == "RGB"
            assert picture.rgb.size == base.size, path
            # A palette, dots and losses move pixels, and hardly their mean; raw 32-bit grays say no white.
            assert np.abs(means(picture.rgb) - means(expected)).max() <= 14, path
            encode(picture.rgb, picture.alpha, picture.icc, "png")
            read.append(path.name)
    assert len(read) >= 60, read


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_every_size_goes_through_and_comes_out(folder: Path, size: tuple[int, int]) -> None:
    for kind in ("png", "jpeg"):
        picture = prepared(str(photo(folder / f"a.{kind}", size)), 100, Edit())
        for output in ("png", "webp"):
            with Image.open(io.BytesIO(encode(picture.rgb, None, None, output))) as out:
                assert out.size == size


def ycck(cmyk: Image.Image) -> bytes:
    """A JPEG of CMYK whose inks are kept as brightness and colours, as Photoshop writes it."""
    *inks, black = cmyk.split()
    turned = [
        one.point([255 - value for value in range(256)]) for one in Image.merge("RGB", inks).convert("YCbCr").split()
    ]
    buffer = io.BytesIO()
    Image.merge("CMYK", [*turned, black]).save(buffer, "jpeg", quality=98, subsampling=0)
    data = bytearray(buffer.getvalue())
    at = data.index(b"Adobe")
    assert data[at + 11] == 0
    data[at + 11] = 2
    return bytes(data)


def test_inks_of_a_jpeg_are_read_in_both_of_their_forms(folder: Path) -> None:
    cmyk = Image.open(photo(folder / "base.png")).convert("CMYK")
    (folder / "ycck.jpg").write_bytes(ycck(cmyk))
    cmyk.save(folder / "cmyk.jpg", quality=98, subsampling=0)
    for name in ("ycck.jpg", "cmyk.jpg"):
        got = np.asarray(prepared(name, 100, Edit()).rgb).astype(int)
        assert np.abs(got - np.asarray(cmyk.convert("RGB"))).mean() <= 4, name


@pytest.mark.parametrize("kind", ["jpeg", "webp", "png", "tiff"])
def test_a_wrong_ending_does_not_matter(folder: Path, kind: str) -> None:
    photo(folder / f"a.{kind}")
    for ending in ("jpg", "png", "gif", "txt"):
        wrong = folder / f"b.{ending}"
        wrong.write_bytes((folder / f"a.{kind}").read_bytes())
        assert prepared(str(wrong), 100, Edit()).rgb.size == (64, 48)


def film(kind: str) -> Callable[[Path], bytes]:
    def made(path: Path) -> bytes:
        frames = [Image.new("RGB", (64, 48), (60 * n, 0, 90)) for n in range(4)]
        frames[0].save(path, kind, save_all=True, append_images=frames[1:], duration=50)
        return path.read_bytes()

    return made


@pytest.mark.parametrize("frames", ["first", "all"])
@pytest.mark.parametrize("kind", ["gif", "png", "webp"])
def test_an_animation_cut_anywhere_is_a_picture_or_refused(folder: Path, kind: str, frames: str) -> None:
    whole = film(kind)(folder / "whole")
    refused: list[str] = []
    for share in range(1, 20):
        (folder / "cut").write_bytes(whole[: len(whole) * share // 20])
        try:
            assert prepared("cut", 100, Edit(frames=frames)).rgb.size == (64, 48)
        except PictureError as problem:
            refused.append(str(problem))
    assert all(text.startswith("cut: ") for text in refused)
    assert 0 < len(refused) <= 19
