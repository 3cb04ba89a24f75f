"""How much a picture depends on the shape of the batch it was made in: the built-in model, one edit, several shapes.

At one shape a picture is bit-equal whatever its neighbours (a test holds that); told is the largest difference of
pixels to those of a batch of 2 rows, and the mean.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING

from PIL import Image

from .common.children import ROOT
from .common.rows import OURS, Row

if TYPE_CHECKING:
    from torch import Tensor

    from sdedit_cli.engine.editor import Editor
    from sdedit_cli.options import Edit

DRAWING = ROOT / "presets" / "strokes" / "apple.png"
FIRST, ROWS = 2, (4, 8, 16)


def run(given: argparse.Namespace) -> Iterator[Row]:
    from sdedit_cli.engine.editor import Editor
    from sdedit_cli.options import Edit

    for dtype in given.dtype or ("fp32", "bf16"):
        steps = 2 if given.quick else 25
        how = {"prompt": "3d emoji of a red apple", "strength": 0.75, "cfg_scale": 4.0, "seed": 1, "steps": steps}
        edit = Edit(**how, dtype=dtype, device="cpu")
        editor = Editor.open(edit)
        first = pixels(editor, edit, FIRST)
        for rows in ROWS:
            off = (pixels(editor, edit, rows) - first).abs()
            yield Row(f"{rows} rows, {dtype}", OURS, (float(off.max()),), "of 255", also={"mean": float(off.mean())})


def pixels(editor: Editor, edit: Edit, rows: int) -> Tensor:
    """The picture, in 0..255, made in a batch padded to `rows`."""
    import torch

    from sdedit_cli.engine.denoise import Loop
    from sdedit_cli.engine.image import preprocess

    engine, vae = editor.engine, editor.engine.components.vae
    image = preprocess(Image.open(DRAWING).convert("RGB"), vae.config.scale, vae.config.latent_channels)
    loop = Loop(engine.family, engine.components.unet, rows)
    running = loop.join(editor.track(edit, image))
    while not running.finished:
        loop.tick()
    with torch.no_grad():
        return (engine.decode(running.x_BCHW)[0].float() / 2 + 0.5).clamp(0, 1) * 255
