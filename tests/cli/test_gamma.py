"""The gamma that a PNG states: its numbers stay, and mean in the edit what they meant in the input."""

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


def stated(gamma: int, *more: bytes) -> bytes:
    return png(RAMP, 8, 0, chunk(b"gAMA", struct.pack(">I", gamma)), *more)


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
