"""The sizes in which pictures are worked on and written: what limits and --resize make of any picture."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from sdedit_cli.errors import PictureError, UsageError
from sdedit_cli.options import Edit, Layer, edit_from, environment
from sdedit_cli.pictures.codec import Picture
from sdedit_cli.pictures.resize import in_frame, sized

SIDES = st.integers(1, 400)


def picture(width: int, height: int, *, alpha: bool = False) -> Picture:
    """Each pixel tells where it was: red its column, green its row."""
    y, x = np.mgrid[:height, :width]
    rgb = Image.fromarray(np.stack([x % 256, y % 256, x * 0 + 99], axis=-1).astype(np.uint8))
    return Picture(rgb, Image.new("L", rgb.size, 200) if alpha else None, None, "")


@pytest.mark.parametrize(
    ("options", "size", "written"),
    [
        ({}, (4032, 3024), (4032, 3024)),
        ({"max_megapixels": 1.0}, (4032, 3024), (1154, 866)),
        ({"max_megapixels": 1.0}, (800, 600), (800, 600)),
        ({"max_megapixels": 1.0, "max_side": 900}, (4032, 3024), (900, 675)),
        ({"max_megapixels": 0.25, "max_side": 900}, (4032, 3024), (577, 433)),
        ({"size": "512x512"}, (4032, 3024), (512, 512)),
        ({"size": "512x512", "resize": "fit"}, (4032, 3024), (512, 384)),
        ({"size": "512x512", "resize": "fit"}, (30, 40), (384, 512)),
        ({"size": "512x512", "resize": "fill"}, (4032, 3024), (512, 512)),
        ({"size": "512x512", "resize": "pad"}, (4032, 3024), (512, 512)),
        ({"size": "512x512", "resize": "none"}, (4032, 3024), (512, 512)),
        ({"size": "512x512", "resize": "fill"}, (1, 16000), (512, 512)),
        ({"resize": "none"}, (70, 50), (70, 50)),
        ({"upscale": 2}, (70, 50), (140, 100)),
        ({"upscale": 1.5, "max_side": 40}, (70, 51), (60, 44)),
        ({"upscale": 4, "size": "30x20", "resize": "fill"}, (70, 50), (120, 80)),
    ],
    ids=str,
)
def test_sizes(options: dict[str, Any], size: tuple[int, int], written: tuple[int, int]) -> None:
    assert Edit(**options).size_of(size) == written


@given(SIDES, SIDES, st.floats(1e-6, 0.2), st.none() | st.integers(1, 500))
def test_limits_hold_and_keep_the_shape(width: int, height: int, megapixels: float, side: int | None) -> None:
    w, h = Edit(max_megapixels=megapixels, max_side=side).size_of((width, height))
    assert 1 <= w <= width
    assert 1 <= h <= height
    # A picture that is a line keeps one pixel across.
    assert w * h <= max(megapixels * 1e6, w, h)
    assert side is None or max(w, h) <= side
    if min(w, h) > 1:
        factor = max(w, h) / max(width, height)
        assert abs(min(w, h) - min(width, height) * factor) <= 2


@given(SIDES, SIDES, SIDES, SIDES, st.sampled_from(["fit", "fill", "pad", "none", "exact"]), st.booleans())
def test_a_picture_comes_out_in_the_size_that_is_announced(
    width: int, height: int, w: int, h: int, how: str, alpha: bool
) -> None:
    edit = Edit(size=f"{w}x{h}", resize=how)
    original = picture(width, height, alpha=alpha)
    got = in_frame(original, edit.placement((width, height)))
    assert got.rgb.size == edit.size_of((width, height))
    assert (got.rgb.size == (w, h)) or (how == "fit" and got.rgb.width <= w and got.rgb.height <= h)
    assert (got.alpha.size if got.alpha else None) == (got.rgb.size if alpha else None)
    if (w, h) == (width, height):
        assert got is original, "a picture that has the size is not even copied"


@given(SIDES, SIDES, SIDES, SIDES)
def test_without_scaling_the_middle_stays_as_it_is(width: int, height: int, w: int, h: int) -> None:
    got = in_frame(picture(width, height), Edit(size=f"{w}x{h}", resize="none").placement((width, height)))
    source, result = np.asarray(picture(width, height).rgb), np.asarray(got.rgb)
    shared_w, shared_h = min(w, width), min(h, height)

    def middle(pixels: np.ndarray) -> np.ndarray:
        top, left = (pixels.shape[0] - shared_h) // 2, (pixels.shape[1] - shared_w) // 2
        return pixels[top : top + shared_h, left : left + shared_w]

    assert np.array_equal(middle(result), middle(source))


def test_what_is_added_shows_the_edge_or_the_background_and_is_transparent_where_there_is_transparency() -> None:
    how = Edit(size="80x40", resize="pad").placement((20, 20))
    edge = in_frame(picture(20, 20, alpha=True), how)
    assert edge.rgb.getpixel((0, 20)) == edge.rgb.getpixel((20, 20))
    assert edge.alpha is not None
    assert [edge.alpha.getpixel((x, 20)) for x in (0, 40, 79)] == [0, 200, 0]
    on_colour = in_frame(picture(20, 20), how, (1, 2, 3))
    assert [on_colour.rgb.getpixel((x, 0)) for x in (0, 79)] == [(1, 2, 3)] * 2


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"size": "64x64", "max_megapixels": 1.0}, "size and max-megapixels exclude each other"),
        ({"size": "64x64", "max_side": 9}, "size and max-side exclude each other"),
        ({"max_side": 9, "resize": "none"}, "max-side scales a picture down, and resize none scales none"),
        ({"resize": "fill"}, "resize is fill, and there is no size to bring the picture to; add --size WxH"),
        ({"resize": "stretch"}, "expected one of exact, fit, fill, pad, none"),
        ({"max_megapixels": 0.0}, "expected a number above 0"),
    ],
    ids=str,
)
def test_sizes_that_exclude_each_other_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Edit(**options)


def test_a_later_limit_takes_a_size_and_its_way_back() -> None:
    preset = Layer("preset", {"size": "64x64", "resize": "fill"})
    assert edit_from([preset, Layer("command line", {"max_megapixels": 0.5})]).size is None
    assert edit_from([Layer("preset", {"max_megapixels": 0.5}), preset]).max_megapixels is None


def test_the_limit_that_refuses_and_the_one_that_scales_have_variables_of_their_own() -> None:
    """SDEDIT_MAX_MEGAPIXELS says which files are trusted: it must not bring pictures down."""
    assert environment({"SDEDIT_MAX_MEGAPIXELS": "2.5"}).values == {}
    assert environment({"SDEDIT_SCALE_TO_MEGAPIXELS": "2.5"}).values == {"max_megapixels": 2.5}


@pytest.mark.parametrize("alpha", [False, True])
def test_an_enlarged_picture_is_so_many_times_as_large_and_its_transparency_too(alpha: bool) -> None:
    got = sized(picture(20, 10, alpha=alpha), Edit(upscale=3), "a.png", 100.0)
    assert got.rgb.size == (60, 30)
    assert (got.alpha.size if got.alpha else None) == ((60, 30) if alpha else None)
    same = picture(20, 10, alpha=alpha)
    assert sized(same, Edit(upscale=1), "a.png", 100.0) is same


def test_a_picture_is_enlarged_within_the_limit_of_files_alone() -> None:
    with pytest.raises(PictureError, match=r"a.png: enlarged 16 times it is 6400 x 4800 pixels \(30.72 megapixels\)"):
        sized(picture(400, 300), Edit(upscale=16), "a.png", 30.0)


def test_a_texture_is_enlarged_with_its_other_edge_behind_each() -> None:
    rng = np.random.default_rng(0)
    texture = rng.integers(0, 256, (12, 12, 3), dtype=np.uint8)

    def large(values: np.ndarray, **options: Any) -> np.ndarray:
        given = Picture(Image.fromarray(values), Image.fromarray(values[..., 0]), None, "")
        return np.asarray(sized(given, Edit(upscale=2, **options), "a.png", 100.0).rgb).astype(int)

    moved = np.roll(texture, 6, (0, 1))
    for seamless, equal in (("xy", True), ("x", False), (None, False)):
        rolled = np.roll(large(texture, seamless=seamless), 12, (0, 1))
        assert bool((large(moved, seamless=seamless) == rolled).all()) is equal
