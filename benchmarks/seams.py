"""Seams of tiled and of seamless edits, on pictures of the built-in model.

A step across a line of a picture is the mean of |difference| of the pixels on both sides. Told is the mean step where
tiles meet (or where the edges of a texture do), beside the 98th percentile of the steps elsewhere in that picture,
which it should not exceed. `--sheet FILE` writes the textures of the docs alone: without and with --seamless, each
repeated twice both ways.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from .common.children import ROOT
from .common.rows import OURS, Row

if TYPE_CHECKING:
    from sdedit_cli.engine.editor import Editor
    from sdedit_cli.options import Edit

SIDE, TILE, OVERLAP = 160, 64, 16


def options(parser: argparse._ArgumentGroup) -> None:
    parser.add_argument("--pictures", type=int, default=20, help="of each kind (default: 20)")


def run(given: argparse.Namespace) -> Iterator[Row]:
    from sdedit_cli.engine.editor import Editor
    from sdedit_cli.nn import Tiles
    from sdedit_cli.options import Edit

    edit = Edit(prompt="flowers", strength=0.5, cfg_scale=4.0, steps=10, seed=1, dtype="fp32", device="cpu")
    editor = Editor.open(edit)
    if given.sheet:
        sheet(editor, edit).save(given.sheet)
        return
    count = 1 if given.quick else given.pictures
    scale = editor.engine.components.vae.config.scale
    starts = [start * scale for start in Tiles(TILE // scale, OVERLAP // scale).starts(SIDE // scale, False)]
    lines = sorted({*starts, *(start + TILE for start in starts)} - {0, SIDE})
    images = (drawings() + [texture(k).resize((SIDE, SIDE)) for k in range(count)])[:count]
    tiled = replace(edit, tile=f"{TILE}:{OVERLAP}", strength=0.4)
    for k, image in enumerate(images):
        yield from told(f"tiles {k}", editor.edit(tiled, image).image, lines)
    around = replace(edit, seamless="xy")
    for k in range(count):
        yield from told(f"texture {k}", editor.edit(around, texture(k)).image, [0])


def sheet(editor: Editor, edit: Edit) -> Image.Image:
    edit = replace(edit, prompt="a red apple", strength=0.7, steps=25)
    with Image.open(ROOT / "presets" / "strokes" / "mountain.png") as strokes:
        plain = strokes.convert("RGB").crop((14, 22, 50, 58)).resize((128, 128), Image.Resampling.BICUBIC)
    sides = [repeated(editor.edit(one, plain).image) for one in (edit, replace(edit, seamless="xy"))]
    page = Image.new("RGB", (2 * sides[0].width + 16, sides[0].height), "white")
    for number, side in enumerate(sides):
        page.paste(side, (number * (side.width + 16), 0))
    return page


def texture(seed: int) -> Image.Image:
    """Random soft colours, 96 x 96, that repeat."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    large = Image.fromarray(np.tile(coarse, (3, 3, 1))).resize((288, 288), Image.Resampling.BICUBIC)
    return large.crop((96, 96, 192, 192))


def drawings() -> list[Image.Image]:
    paths = sorted((ROOT / "presets" / "strokes").glob("*.png"))
    return [Image.open(path).convert("RGB").resize((SIDE, SIDE), Image.Resampling.BICUBIC) for path in paths]


def steps(pixels: np.ndarray, axis: int) -> np.ndarray:
    values = pixels.astype(float)
    return np.abs(values - np.roll(values, 1, axis)).mean(axis=(1 - axis, 2))


def told(name: str, image: Image.Image, lines: list[int]) -> Iterator[Row]:
    for axis in (0, 1):
        all_steps = steps(np.asarray(image), axis)
        inside = np.delete(all_steps, [0, *lines])
        also = {"elsewhere": float(np.percentile(inside, 98))}
        yield Row(
            f"{name}, {'rows' if axis == 0 else 'columns'}", OURS, (float(all_steps[lines].mean()),), "", also=also
        )


def repeated(image: Image.Image) -> Image.Image:
    return Image.fromarray(np.tile(np.asarray(image), (2, 2, 1)))
