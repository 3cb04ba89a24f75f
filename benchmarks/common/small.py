"""Small pictures for the built-in model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from .models import STARTER as BUILT_IN

__all__ = ["BUILT_IN", "SIDE", "pictures"]
SIDE = 64


def pictures(folder: Path, count: int) -> list[Path]:
    """So many small pictures of blobs in a new folder."""
    folder.mkdir()
    draw = np.random.default_rng(0)
    paths = [folder / f"{number}.png" for number in range(count)]
    for path in paths[:64]:
        blobs = Image.fromarray(draw.integers(0, 256, (8, 8, 3), dtype=np.uint8))
        blobs.resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(path)
    for number, path in enumerate(paths[64:]):
        path.write_bytes(paths[number % 64].read_bytes())
    return paths
