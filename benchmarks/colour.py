"""How far colours drift when a picture is edited again and again: 20 passes at strength 0.2, by `--color`.

The photographs are those in scikit-image's package. Told is the mean CIEDE2000 between colours in large (low
frequencies in linear light) of the last picture and the first. `gaps` are levels of a channel that no pixel of the last
picture has, between levels that many have, and that are none of the first. `--sheet` writes all last pictures.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from PIL import Image

from .common.rows import Row

PHOTOGRAPHS = ("astronaut", "coffee", "chelsea", "rocket", "immunohistochemistry")
WAYS = ("off", "match", "keep")
SIDE = 256
# With so many pixels expected, a level is empty by chance once in 20,000 times.
MANY = 10


def options(parser: argparse._ArgumentGroup) -> None:
    parser.add_argument("--passes", type=int, default=20, help="edits of each photograph (default: 20)")
    parser.add_argument("--edited-by", metavar="MODEL", help="a checkpoint (default: the built-in one)")


def run(given: argparse.Namespace) -> Iterator[Row]:
    from sdedit_cli.engine.editor import Editor
    from sdedit_cli.options import Edit

    passes, names = (1, PHOTOGRAPHS[:1]) if given.quick else (given.passes, PHOTOGRAPHS)
    edit = Edit(model=given.edited_by, seed=1, strength=0.2, steps=25, device="cpu", dtype="fp32")
    editor = Editor.open(edit)
    sheet = Image.new("RGB", (SIDE * (1 + len(WAYS)), SIDE * len(names)))
    for row, name in enumerate(names):
        first = photograph(name)
        sheet.paste(first, (0, row * SIDE))
        for column, way in enumerate(WAYS, 1):
            image = first
            for number in range(passes):
                image = editor.edit(replace(edit, color=way, seed=1 + number), image).image
            yield Row(name, f"--color {way}", (drift(image, first),), "CIEDE2000", also={"gaps": gaps(image, first)})
            sheet.paste(image, (column * SIDE, row * SIDE))
    if given.sheet:
        sheet.save(given.sheet)


def photograph(name: str) -> Image.Image:
    from skimage import data

    image = Image.fromarray(getattr(data, name)()).convert("RGB")
    image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    return image


def in_large(image: Image.Image) -> np.ndarray:
    import torch
    from skimage.color import rgb2lab

    from sdedit_cli.engine.colour import encoded, linear, low

    light = linear(torch.from_numpy(np.asarray(image) / 255.0).float().permute(2, 0, 1)[None])
    return rgb2lab(encoded(low(light)).clamp(0, 1)[0].permute(1, 2, 0).numpy())


def drift(image: Image.Image, first: Image.Image) -> float:
    from skimage.color import deltaE_ciede2000

    return float(np.mean(deltaE_ciede2000(in_large(image), in_large(first))))


def gaps(image: Image.Image, first: Image.Image) -> int:
    """Empty levels between two in use that the first picture does not have, over the channels: bands."""
    return int((_empty(image) & ~_empty(first)).sum())


def _empty(image: Image.Image) -> np.ndarray:
    """(C, 254): whether a level has no pixel, and each of its neighbours so many that chance alone leaves none empty.

    At the ends of a histogram, where a level has a pixel or two, empty ones come and go.
    """
    counts = np.stack([np.bincount(channel.ravel(), minlength=256) for channel in np.moveaxis(np.asarray(image), 2, 0)])
    return (counts[:, 1:-1] == 0) & (np.minimum(counts[:, :-2], counts[:, 2:]) >= MANY)
