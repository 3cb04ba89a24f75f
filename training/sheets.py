"""Pictures of how training goes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

GAP = 2


def picture(x_CHW: Tensor) -> Image.Image:
    """A picture from values in -1..1."""
    pixels = ((x_CHW.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return Image.fromarray(np.ascontiguousarray(pixels.permute(1, 2, 0).cpu().numpy()))


def grid(rows: list[list[Image.Image]], path: Path, scale: int = 1) -> None:
    """Writes a table of pictures of one size, each enlarged `scale` times."""
    width, height = (side * scale for side in rows[0][0].size)
    columns = max(len(row) for row in rows)
    sheet = Image.new("RGB", (columns * (width + GAP) + GAP, len(rows) * (height + GAP) + GAP), (128, 128, 128))
    for r, row in enumerate(rows):
        for c, cell in enumerate(row):
            enlarged = cell.convert("RGB").resize((width, height), Image.Resampling.NEAREST)
            sheet.paste(enlarged, (GAP + c * (width + GAP), GAP + r * (height + GAP)))
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)


def pairs(originals: Tensor, results: Tensor, path: Path, columns: int = 12) -> None:
    """Rows of originals, each above a row of what became of them."""
    rows: list[list[Image.Image]] = []
    for start in range(0, len(originals), columns):
        for batch in (originals, results):
            rows.append([picture(x) for x in batch[start : start + columns]])
    grid(rows, path, scale=2)
