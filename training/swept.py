"""The sheet in docs/command-line.md: `python -m training.swept` sweeps a stroke drawing with the built-in model.

The real pictures are those that were held out of its training, as the sheet of its autoencoder shows them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
from PIL import Image

from sdedit_cli.cli.main import run

from . import sheets

DRAWING, PROMPT = "tree", "3d emoji of a deciduous tree"
HELD_OUT = Path("sdedit_cli/assets/starter/autoencoder.png")
_SIDE, _SCALE = 64, 2


def held_out(sheet: Image.Image) -> Iterator[Image.Image]:
    """The pictures in the odd rows of a sheet of `sheets.pairs`."""
    pitch = _SIDE * _SCALE + sheets.GAP
    for top in range(sheets.GAP, sheet.height - sheets.GAP, 2 * pitch):
        for left in range(sheets.GAP, sheet.width - sheets.GAP, pitch):
            cell = sheet.crop((left, top, left + _SIDE * _SCALE, top + _SIDE * _SCALE))
            if np.asarray(cell).std() > 0:
                yield cell.resize((_SIDE, _SIDE), Image.Resampling.NEAREST)


@click.command()
@click.option("--presets", type=click.Path(path_type=Path, exists=True), default=Path("presets"), show_default=True)
@click.option("--to", type=click.Path(path_type=Path), default=Path("docs/pictures/sweep.png"), show_default=True)
def main(presets: Path, to: Path) -> None:
    """Write the sheet with its plot."""
    drawing = presets / "strokes" / f"{DRAWING}.png"
    axes = ["--sweep", "strength=0.3,0.5,0.7,0.9", "--sweep", "cfg-scale=2,6"]
    with tempfile.TemporaryDirectory() as folder:
        for number, picture in enumerate(held_out(Image.open(HELD_OUT).convert("RGB"))):
            picture.save(Path(folder) / f"{number}.png")
        words = ["-p", PROMPT, "--seed", "1", "--steps", "20", *axes, "--sweep-realism", folder]
        code = run(["run", str(drawing), *words, "-o", str(to), "--on-exists", "overwrite", "--quiet"])
    if code:
        raise click.exceptions.Exit(code)


if __name__ == "__main__":
    main()
