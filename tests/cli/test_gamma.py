"""The gamma and primaries that a PNG states: its numbers stay, and mean in the edit what they meant in the input."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
from helpers.cli import QUICK
from helpers.pngs import chunk, png
from PIL import Image, ImageCms

from sdedit_cli.cli.main import run
from sdedit_cli.options import Edit
from sdedit_cli.pictures.prepared import prepared

RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)
COLOURS = RAMP.repeat(3, axis=1)


def stated(gamma: int, *more: bytes) -> bytes:
    """Of gray where nothing is said of primaries."""
    how = (COLOURS, 8, 2) if more else (RAMP, 8, 0)
    return png(*how, chunk(b"gAMA", struct.pack(">I", gamma)), *more)


def places(*numbers: float) -> bytes:
    return chunk(b"cHRM", struct.pack(">8I", *(round(number * 100_000) for number in numbers)))


P3 = (0.3127, 0.3290, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06)
# The colorants of Display P3 as its published profiles have them, adapted to D50.
P3_COLORANTS = ((0.51512, 0.24120, -0.00105), (0.29198, 0.69225, 0.04189), (0.15710, 0.06657, 0.78407))


def profile_of_input(data: bytes) -> ImageCms.ImageCmsProfile:
    Path("a.png").write_bytes(data)
    icc = prepared("a.png", 100, Edit()).icc
    assert icc is not None
    return ImageCms.ImageCmsProfile(io.BytesIO(icc))


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("data", "middle"),
    [
        (stated(45_455, places(*P3)), 0.2158),
        (png(COLOURS, 8, 2, places(*P3)), 0.2158),
        (png(COLOURS, 8, 2, chunk(b"cICP", b"\x0c\x0d\0\1")), 0.2158),
        (stated(100_000, places(*P3)), 128 / 255),
    ],
)
def test_a_profile_has_the_primaries_and_the_curve_that_a_file_states(data: bytes, middle: float) -> None:
    profile = profile_of_input(data)
    found = [getattr(profile.profile, f"{colour}_colorant")[0] for colour in ("red", "green", "blue")]
    assert np.abs(np.array(found) - np.array(P3_COLORANTS)).max() < 0.0005
    to_srgb = ImageCms.profileToProfile(Image.new("RGB", (1, 1), (128,) * 3), profile, ImageCms.createProfile("sRGB"))
    assert to_srgb is not None
    wanted = middle * 12.92 if middle <= 0.0031308 else 1.055 * middle ** (1 / 2.4) - 0.055
    assert np.abs(np.array(to_srgb.getpixel((0, 0))) - wanted * 255).max() <= 1


def test_colours_that_no_profile_is_made_of_are_told(folder: Path) -> None:
    (folder / "a.png").write_bytes(png(COLOURS, 8, 2, chunk(b"cICP", b"\x09\x10\0\1")))
    picture = prepared("a.png", 100, Edit())
    told = "left out is what its chunk cICP says of its colours (9, 16, 0, 1): they are taken for sRGB"
    assert (picture.icc, picture.notes) == (None, (told,))


@pytest.mark.parametrize("gamma", [100_000, 55_556, 30_000, 200_000])
def test_numbers_stay_and_a_profile_says_what_light_they_are(folder: Path, gamma: int) -> None:
    (folder / "a.png").write_bytes(stated(gamma))
    kept, srgb = (prepared("a.png", 100, Edit(to_srgb=brought)) for brought in (False, True))
    assert (np.asarray(kept.rgb)[..., 0] == RAMP).all()
    assert kept.icc is not None
    profile = ImageCms.ImageCmsProfile(io.BytesIO(kept.icc))
    assert ImageCms.getProfileDescription(profile).strip() == f"gamma {100_000 / gamma:.4g}"
    light = (RAMP / 255.0) ** (100_000 / gamma)
    wanted = np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055) * 255
    assert srgb.icc is None
    found = np.asarray(srgb.rgb).astype(float)
    assert np.abs(found - wanted[..., None]).max() <= 2


@pytest.mark.parametrize(
    "data",
    [
        stated(45_455),
        stated(46_000),
        stated(0),
        stated(2**32 - 1),
        stated(1),
        stated(100_000, chunk(b"sRGB", b"\0")),
        png(RAMP, 8, 0, chunk(b"gAMA", b"\0")),
        stated(45_455, places(0.3127, 0.329, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06)),
        stated(45_455, places(0.3127, 0.329, 0.6401, 0.3299, 0.3001, 0.5999, 0.1499, 0.0601)),
        stated(45_455, places(0.3127, 0, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06)),
        stated(45_455, places(0.3127, 0.329, 0.64, 0.33, 0.64, 0.33, 0.64, 0.33)),
        stated(45_455, chunk(b"cHRM", b"\xff" * 32)),
        stated(100_000, places(*P3), chunk(b"cICP", b"\1\x0d\0\1")),
        png(RAMP, 8, 0, places(*P3)),
        png(RAMP, 8, 0, chunk(b"cICP", b"\x0c\x0d\0\1")),
    ],
)
def test_what_is_srgb_or_nothing_gets_no_profile(folder: Path, data: bytes) -> None:
    (folder / "a.png").write_bytes(data)
    picture = prepared("a.png", 100, Edit())
    assert (picture.icc, picture.notes) == (None, ())


def test_what_a_mask_keeps_is_kept_and_the_edit_has_the_gamma(folder: Path) -> None:
    (folder / "a.png").write_bytes(stated(100_000))
    Image.new("L", (16, 16)).save(folder / "black.png")
    assert run(["run", "a.png", "--mask", "black.png", "-p", "x", *QUICK, "-o", "o.png", "-q"]) == 0
    with Image.open("o.png") as made:
        assert (np.asarray(made)[..., 0] == RAMP).all()
        assert made.info["icc_profile"] == prepared("a.png", 100, Edit()).icc
