"""Pictures that a library call is given: one whose file is broken is said to be so in our words."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sdedit_cli.engine.image import preprocess
from sdedit_cli.engine.towers import clip_pixels
from sdedit_cli.errors import PictureError, UsageError


def cut(format: str, mode: str) -> Image.Image:
    """A picture that PIL has opened and not read, whose file ends in the middle of its pixels."""
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(stream, format)
    return Image.open(io.BytesIO(stream.getvalue()[: len(stream.getvalue()) // 2]))


@pytest.mark.parametrize(
    ("format", "mode"),
    [("png", "RGB"), ("png", "P"), ("png", "RGBA"), ("jpeg", "RGB"), ("jpeg", "CMYK"), ("bmp", "RGB")],
)
def test_a_file_that_breaks_off_is_told_by_our_error(format: str, mode: str) -> None:
    with pytest.raises(PictureError, match=r"damaged or cut short .*whole copy"):
        preprocess(cut(format, mode), 8, 4)


def test_so_is_one_of_several_and_one_that_is_an_image_prompt() -> None:
    whole = Image.new("RGB", (64, 64))
    with pytest.raises(PictureError, match="damaged or cut short"):
        preprocess([whole, cut("png", "RGB")], 8, 4)

    def never(images: list[Any], return_tensors: str) -> Any:
        raise AssertionError("it is not reached")

    with pytest.raises(PictureError, match="damaged or cut short"):
        clip_pixels(never, [whole, cut("png", "RGB")])


def test_a_file_that_is_named_is_named(tmp_path: Any) -> None:
    stream = io.BytesIO()
    Image.effect_noise((64, 64), 50).save(stream, "png")
    (tmp_path / "half.png").write_bytes(stream.getvalue()[:1000])
    with pytest.raises(PictureError, match=r"half\.png"), Image.open(tmp_path / "half.png") as image:
        preprocess(image, 8, 4)


def test_a_picture_that_was_closed_is_not_called_damaged(tmp_path: Path) -> None:
    Image.new("RGB", (64, 64)).save(tmp_path / "ok.png")
    with Image.open(tmp_path / "ok.png") as left:
        pass
    closed = Image.open(tmp_path / "ok.png")
    closed.close()
    for picture in (left, closed):
        with pytest.raises(UsageError, match=r"ok\.png was closed before it was read"):
            preprocess(picture, 8, 4)
    read = Image.open(tmp_path / "ok.png")
    read.load()
    read.fp = None
    assert preprocess(read, 8, 4).shape[1] == 3
