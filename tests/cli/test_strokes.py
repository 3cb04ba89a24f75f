"""`--strokes N`: what the model is shown is a painting of N colours in broad strokes, and what a mask keeps is not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.cli import QUICK, photo
from PIL import Image, ImageFilter

from sdedit_cli.cli.main import run
from sdedit_cli.pictures.strokes import painted


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def colours_of(image: Image.Image) -> set[tuple[int, ...]]:
    return {tuple(colour) for colour in np.asarray(image).reshape(-1, 3).tolist()}


@pytest.mark.parametrize("size", [(64, 48), (300, 40), (1, 1), (700, 500)])
def test_a_painting_has_the_pictures_size_and_few_colours(size: tuple[int, int]) -> None:
    image = noise(5, 4).resize(size, Image.Resampling.BICUBIC)
    made = painted(image, 6)
    assert (made.size, made.mode) == (size, "RGB")
    assert len(colours_of(made)) <= 6
    assert made.tobytes() == painted(image, 6).tobytes()


def test_strokes_are_a_median_and_a_palette_as_the_paper_has_them() -> None:
    """Against Pillow's median, which is slow; a kernel of 23 on a picture of 256 is one of 7 on 80."""
    image = noise(80, 80)
    wanted = image.filter(ImageFilter.MedianFilter(7)).quantize(5, dither=Image.Dither.NONE).convert("RGB")
    assert painted(image, 5).tobytes() == wanted.tobytes()


def test_small_things_are_gone_and_edges_stay_where_they_are() -> None:
    image = Image.new("RGB", (600, 300), "white")
    image.paste((200, 30, 30), (300, 0, 600, 300))
    with_speck = image.copy()
    with_speck.paste("black", (100, 100, 110, 110))
    assert painted(with_speck, 2).tobytes() == painted(image, 2).tobytes()
    assert np.abs(np.asarray(painted(image, 2)).astype(int) - np.asarray(image)).max() <= 4


def test_the_model_sees_the_painting_and_a_mask_keeps_the_picture(folder: Path) -> None:
    noise(48, 32).save(folder / "in.png")
    painted(Image.open("in.png"), 4).save(folder / "painted.png")
    mask = Image.new("L", (48, 32), 0)
    mask.paste(255, (0, 0, 24, 32))
    mask.save(folder / "mask.png")

    def edited(source: str, *more: str) -> np.ndarray:
        assert run(["run", source, "-p", "a", "-q", "-o", "out.png", "--on-exists", "overwrite", *QUICK, *more]) == 0
        return np.asarray(Image.open("out.png"))

    whole = edited("in.png", "--strokes", "4")
    assert np.array_equal(whole, edited("painted.png"))
    half = edited("in.png", "--strokes", "4", "--mask", "mask.png")
    assert np.array_equal(half[:, 24:], np.asarray(Image.open("in.png"))[:, 24:])
    assert "Strokes: 4" in Image.open("out.png").text["parameters"]
    photo(folder / "clear.png", (48, 32), "RGBA")
    assert edited("clear.png", "--strokes", "4").shape == (32, 48, 4)
