"""Pictures of 16 bits a channel: the model is shown all of them, and what a mask keeps comes out with all of them."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from helpers.cli import QUICK
from helpers.deep import SRGB, samples, swapped
from PIL import Image

from sdedit_cli.cli.main import run
from sdedit_cli.engine.editor import Editor
from sdedit_cli.options import Edit
from sdedit_cli.pictures.fine import shown_numbers
from sdedit_cli.pictures.png16 import chunk
from sdedit_cli.pictures.prepared import prepared

WORDS = ("-p", "a cat", "-q", *QUICK)
KINDS = {1: 0, 2: 4, 3: 2, 4: 6}


def png(path: Path, values: np.ndarray, icc: bytes = b"") -> None:
    """A PNG of these samples (H, W, C) of 16 bits, by the standard."""
    height, width, channels = values.shape
    rows = values.astype(">u2").reshape(height, -1).view(np.uint8)
    lines = np.concatenate([np.zeros((height, 1), np.uint8), rows], axis=1)
    head = struct.pack(">IIBBBBB", width, height, 16, KINDS[channels], 0, 0, 0)
    profile = chunk(b"iCCP", b"x\0\0" + zlib.compress(icc)) if icc else b""
    body = chunk(b"IDAT", zlib.compress(lines.tobytes())) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + profile + body)


def values_of(channels: int, size: tuple[int, int] = (64, 48)) -> np.ndarray:
    """Any levels of 16 bits, with an alpha that is opaque but for some columns."""
    width, height = size
    values = np.random.default_rng(channels).integers(0, 65536, (height, width, channels), dtype=np.uint16)
    if channels in (2, 4):
        values[:, 8:, -1] = 65535
    return values


def numbers(name: str, edit: Edit) -> np.ndarray | None:
    picture = prepared(name, 100, edit)
    return shown_numbers(picture.fine, picture.rgb)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_the_model_is_shown_sixteen_bits(folder: Path, channels: int) -> None:
    values = values_of(channels)
    png(folder / "a.png", values)
    colours = values[..., :3] if channels > 2 else np.repeat(values[..., :1], 3, axis=2)
    got = numbers("a.png", Edit())
    assert got is not None
    visible = slice(8, None) if channels in (2, 4) else slice(None)
    assert np.abs(got - colours / 65535)[:, visible].max() < 1e-6
    assert ((got[:, visible] * 255) % 1 > 1e-3).mean() > 0.95


@pytest.mark.parametrize("kind", [np.uint16, np.float32])
@pytest.mark.parametrize("shape", [(48, 64), (48, 64, 3)])
def test_so_it_is_of_tiffs(folder: Path, kind: type, shape: tuple[int, ...]) -> None:
    values = np.random.default_rng(7).random(shape)
    scaled = (values * 65535).round().astype(kind) if kind is np.uint16 else values.astype(kind)
    tifffile.imwrite(folder / "a.tif", scaled, photometric="rgb" if len(shape) == 3 else "minisblack")
    got = numbers("a.tif", Edit())
    assert got is not None
    assert np.abs(got - (values if len(shape) == 3 else values[..., None])).max() < 1e-4


def test_another_shade_below_eight_bits_is_another_edit(folder: Path) -> None:
    """Two pictures that are one in 8 bits: what the model is shown of them differs, and so do its numbers."""
    values = values_of(3)
    other = (values & 0xFF00) | 0x80
    png(folder / "a.png", values)
    png(folder / "b.png", other)
    editor = Editor.open(Edit(device="cpu", dtype="fp32"))
    from sdedit_cli.engine.company import Wish

    def worked_on(name: str) -> np.ndarray:
        picture = prepared(name, 100, Edit())
        wish = Wish(Edit(), picture.rgb, fine=shown_numbers(picture.fine, picture.rgb))
        area = editor.canvas(Edit(), picture.rgb.size)
        return wish.pixels(area, editor.engine.components.vae.config).numpy()

    assert prepared("a.png", 100, Edit()).rgb.tobytes() == prepared("b.png", 100, Edit()).rgb.tobytes()
    apart = np.abs(worked_on("a.png") - worked_on("b.png"))
    assert 0 < apart.max() < 4 / 255
    # One of 8 bits is what it always was.
    png(folder / "c.png", values // 256 * 257)
    Image.fromarray((values // 256).astype(np.uint8)).save("d.png")
    assert np.abs(worked_on("c.png") - worked_on("d.png")).max() < 1e-6


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("more", [(), ("--masked-area", "crop"), ("--size", "32x40", "--resize", "pad")])
def test_what_a_mask_keeps_has_all_its_bits(folder: Path, channels: int, more: tuple[str, ...]) -> None:
    values = values_of(channels)
    png(folder / "a.png", values)
    mask = np.zeros((48, 64), np.uint8)
    mask[:, 40:] = 255
    Image.fromarray(mask).save("m.png")
    assert run(["run", "a.png", *WORDS, "--bits", "16", "--mask", "m.png", *more, "-o", "x.png"]) == 0
    made = samples(Path("x.png").read_bytes())
    if "--size" in more:
        assert made.shape[:2] == (40, 32)
        inside = made[10:30, 2:16, :3]
        assert (inside % 257 != 0).mean() > 0.9
        return
    wanted = values if channels >= 3 else np.repeat(values, 3, axis=2)
    assert (made[:, :40] == wanted[:, :40]).all()
    assert (made[..., 3:] == wanted[..., 3:]).all()
    assert (made[:, 48:, :3] != wanted[:, 48:, :3]).mean() > 0.9


def test_all_black_is_the_input(folder: Path) -> None:
    values = values_of(4)
    png(folder / "a.png", values, icc=SRGB)
    Image.new("L", (64, 48)).save("m.png")
    assert run(["run", "a.png", *WORDS, "--bits", "16", "--mask", "m.png", "-o", "x.png"]) == 0
    assert (samples(Path("x.png").read_bytes()) == values).all()


def test_colours_that_are_changed_are_taken_in_eight_bits(folder: Path) -> None:
    """By a profile, by a palette of strokes: then there are no others."""
    png(folder / "a.png", values_of(3), icc=swapped())
    assert numbers("a.png", Edit()) is not None
    assert numbers("a.png", Edit(to_srgb=True)) is None
    picture = prepared("a.png", 100, Edit(strokes=6))
    assert picture.fine is not None
    assert run(["run", "a.png", *WORDS, "--strokes", "6", "--bits", "16", "-o", "x.png"]) == 0
