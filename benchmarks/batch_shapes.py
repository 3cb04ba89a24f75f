"""How much a picture depends on the shape of the batch it was made in: the built-in model, one edit, several shapes.

    python benchmarks/batch_shapes.py [--dtype fp32 bf16]

At one shape a picture is bit-equal whatever its neighbours (a test holds that); this prints what changes across shapes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from PIL import Image

from sdedit_cli.engine.denoise import Loop
from sdedit_cli.engine.editor import Editor
from sdedit_cli.engine.image import preprocess
from sdedit_cli.options import Edit

DRAWING = Path(__file__).parents[1] / "presets" / "strokes" / "apple.png"
ROWS = (2, 4, 8, 16)


def pixels(editor: Editor, edit: Edit, rows: int) -> torch.Tensor:
    """The picture, in 0..255, made in a batch padded to `rows`."""
    engine, vae = editor.engine, editor.engine.components.vae
    image = preprocess(Image.open(DRAWING).convert("RGB"), vae.config.scale, vae.config.latent_channels)
    loop = Loop(engine.family, engine.components.unet, rows)
    running = loop.join(editor.track(edit, image))
    while not running.finished:
        loop.tick()
    with torch.no_grad():
        return (engine.decode(running.x_BCHW)[0].float() / 2 + 0.5).clamp(0, 1) * 255


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dtype", nargs="+", default=["fp32", "bf16"])
    print(f"| dtype | rows | largest difference to {ROWS[0]} rows, of 255 | mean |")
    print("|---|---|---|---|")
    for dtype in parser.parse_args().dtype:
        edit = Edit(
            prompt="3d emoji of a red apple", steps=25, strength=0.75, cfg_scale=4.0, dtype=dtype, device="cpu", seed=1
        )
        editor = Editor.open(edit)
        first = pixels(editor, edit, ROWS[0])
        for rows in ROWS[1:]:
            off = (pixels(editor, edit, rows) - first).abs()
            print(f"| {dtype} | {rows} | {off.max():.4f} | {off.mean():.4f} |", flush=True)


if __name__ == "__main__":
    main()
