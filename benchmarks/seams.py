"""Seams of tiled and of seamless edits, on pictures of the built-in model: `python benchmarks/seams.py`.

A step across a line of a picture is the mean of |difference| of the pixels on both sides. Told is the mean step where
tiles meet (or where the edges of a texture do), beside the 98th percentile of the steps elsewhere in that picture.
`--sheet FILE` writes the textures of the docs: without and with --seamless, each repeated twice both ways.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from sdedit_cli.engine.editor import Editor
from sdedit_cli.nn import Tiles
from sdedit_cli.options import Edit

ROOT = Path(__file__).parents[1]
EDIT = Edit(prompt="flowers", strength=0.5, cfg_scale=4.0, steps=10, seed=1, dtype="fp32", device="cpu")
SIDE, TILE, OVERLAP = 160, 64, 16


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


def told(name: str, image: Image.Image, lines: list[int]) -> bool:
    good = True
    for axis in (0, 1):
        all_steps = steps(np.asarray(image), axis)
        inside = np.delete(all_steps, [0, *lines])
        seam, limit = all_steps[lines].mean(), np.percentile(inside, 98)
        good &= bool(seam <= limit)
        print(f"{name}, {'rows' if axis == 0 else 'columns'}: {seam:.2f} of at most {limit:.2f}")
    return good


def repeated(image: Image.Image) -> Image.Image:
    return Image.fromarray(np.tile(np.asarray(image), (2, 2, 1)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=20)
    parser.add_argument("--sheet", type=Path)
    asked = parser.parse_args()
    editor = Editor.open(EDIT)
    if asked.sheet:
        edit = replace(EDIT, prompt="a red apple", strength=0.7, steps=25)
        with Image.open(ROOT / "presets" / "strokes" / "mountain.png") as strokes:
            plain = strokes.convert("RGB").crop((14, 22, 50, 58)).resize((128, 128), Image.Resampling.BICUBIC)
        sides = [repeated(editor.edit(one, plain).image) for one in (edit, replace(edit, seamless="xy"))]
        sheet = Image.new("RGB", (2 * sides[0].width + 16, sides[0].height), "white")
        for number, side in enumerate(sides):
            sheet.paste(side, (number * (side.width + 16), 0))
        sheet.save(asked.sheet)
        return
    scale = editor.engine.components.vae.config.scale
    starts = [start * scale for start in Tiles(TILE // scale, OVERLAP // scale).starts(SIDE // scale, False)]
    lines = sorted({*starts, *(start + TILE for start in starts)} - {0, SIDE})
    images = (drawings() + [texture(k).resize((SIDE, SIDE)) for k in range(asked.pictures)])[: asked.pictures]
    tiled = replace(EDIT, tile=f"{TILE}:{OVERLAP}", strength=0.4)
    good = [told(f"tiles {k}", editor.edit(tiled, image).image, lines) for k, image in enumerate(images)]
    around = replace(EDIT, seamless="xy")
    wraps = [told(f"texture {k}", editor.edit(around, texture(k)).image, [0]) for k in range(asked.pictures)]
    print(f"tiles: {sum(good)} of {len(good)} pictures; textures: {sum(wraps)} of {len(wraps)}")


if __name__ == "__main__":
    main()
