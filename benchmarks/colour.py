"""How far colours drift when a picture is edited again and again: 20 passes at strength 0.2, by `--color`.

    python benchmarks/colour.py [--passes N] [--model FOLDER] [--sheet FILE]

The photographs are those in scikit-image's package. Drift is the mean CIEDE2000 between colours in large (low
frequencies in linear light) of the last picture and the first. Gaps are levels of a channel that no pixel has between
levels that some have, smoothed over two neighbours, in the last picture beyond those of the plain one.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from skimage import data
from skimage.color import deltaE_ciede2000, rgb2lab

from sdedit_cli.engine.colour import encoded, linear, low
from sdedit_cli.engine.editor import Editor
from sdedit_cli.options import Edit

PHOTOGRAPHS = ("astronaut", "coffee", "chelsea", "rocket", "immunohistochemistry")
WAYS = ("off", "match", "keep")
SIDE = 256


def photograph(name: str) -> Image.Image:
    image = Image.fromarray(getattr(data, name)()).convert("RGB")
    image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    return image


def in_large(image: Image.Image) -> np.ndarray:
    light = linear(torch.from_numpy(np.asarray(image) / 255.0).float().permute(2, 0, 1)[None])
    return rgb2lab(encoded(low(light)).clamp(0, 1)[0].permute(1, 2, 0).numpy())


def drift(image: Image.Image, first: Image.Image) -> float:
    return float(np.mean(deltaE_ciede2000(in_large(image), in_large(first))))


def gaps(image: Image.Image) -> int:
    """Empty levels with both neighbours in use, over the channels."""
    counts = [np.bincount(channel.ravel(), minlength=256) > 0 for channel in np.moveaxis(np.asarray(image), 2, 0)]
    return sum(int((~used[1:-1] & used[:-2] & used[2:]).sum()) for used in counts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--passes", type=int, default=20)
    parser.add_argument("--model", default=None)
    parser.add_argument("--sheet", type=Path, default=None, help="a picture of all last pictures")
    given = parser.parse_args()
    edit = Edit(model=given.model, seed=1, strength=0.2, steps=25, device="cpu", dtype="fp32")
    editor = Editor.open(edit)
    sheet = Image.new("RGB", (SIDE * (1 + len(WAYS)), SIDE * len(PHOTOGRAPHS)))
    print(f"{'':22}" + "".join(f"{way + ' (gaps)':>16}" for way in WAYS))
    for row, name in enumerate(PHOTOGRAPHS):
        first = photograph(name)
        sheet.paste(first, (0, row * SIDE))
        told = ""
        for column, way in enumerate(WAYS, 1):
            image = first
            for number in range(given.passes):
                image = editor.edit(replace(edit, color=way, seed=1 + number), image).image
            told += f"{drift(image, first):>11.2f} ({gaps(image):>2})"
            sheet.paste(image, (column * SIDE, row * SIDE))
        print(f"{name:22}{told}", flush=True)
    if given.sheet:
        sheet.save(given.sheet)


if __name__ == "__main__":
    main()
