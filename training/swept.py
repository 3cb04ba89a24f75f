"""The sheet and the page in docs/command-line.md: `python -m training.swept` sweeps a stroke drawing with the built-in
model, and has Chromium look at the page.

The real pictures are those that were held out of its training, as the sheet of its autoencoder shows them.
"""

from __future__ import annotations

import subprocess
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
_WINDOW, _OPENED = (1180, 760), 7


def held_out(sheet: Image.Image) -> Iterator[Image.Image]:
    """The pictures in the odd rows of a sheet of `sheets.pairs`."""
    pitch = _SIDE * _SCALE + sheets.GAP
    for top in range(sheets.GAP, sheet.height - sheets.GAP, 2 * pitch):
        for left in range(sheets.GAP, sheet.width - sheets.GAP, pitch):
            cell = sheet.crop((left, top, left + _SIDE * _SCALE, top + _SIDE * _SCALE))
            if np.asarray(cell).std() > 0:
                yield cell.resize((_SIDE, _SIDE), Image.Resampling.NEAREST)


def seen(browser: str, page: Path, number: int) -> Image.Image:
    """The page in a window of its own, with picture `number` shown large."""
    shot = page.with_suffix(".png")
    size = f"--window-size={_WINDOW[0]},{_WINDOW[1]}"
    hidden = ["--headless", "--no-sandbox", "--hide-scrollbars", f"--user-data-dir={page.parent / 'profile'}"]
    command = [browser, *hidden, size, f"--screenshot={shot}", f"{page.resolve().as_uri()}#{number}"]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    return Image.open(shot).convert("RGB")


@click.command()
@click.option("--presets", type=click.Path(path_type=Path, exists=True), default=Path("presets"), show_default=True)
@click.option("--to", type=click.Path(path_type=Path), default=Path("docs/pictures/sweep.png"), show_default=True)
@click.option(
    "--page-to", type=click.Path(path_type=Path), default=Path("docs/pictures/sweep-page.png"), show_default=True
)
@click.option("--browser", default="chromium", show_default=True, help="That takes the picture of the page.")
def main(presets: Path, to: Path, page_to: Path, browser: str) -> None:
    """Write the sheet with its plot, and a picture of the page with one of its pictures shown large."""
    drawing = presets / "strokes" / f"{DRAWING}.png"
    axes = ["--sweep", "strength=0.3,0.5,0.7,0.9", "--sweep", "cfg-scale=2,6"]
    with tempfile.TemporaryDirectory() as folder:
        real, page = Path(folder) / "emoji", Path(folder) / "sweep.html"
        real.mkdir()
        for number, picture in enumerate(held_out(Image.open(HELD_OUT).convert("RGB"))):
            picture.save(real / f"{number}.png")
        words = ["-p", PROMPT, "--seed", "1", "--steps", "20", *axes, "--sweep-realism", str(real)]
        written = ["-o", str(to), "--sweep-page", str(page), "--on-exists", "overwrite", "--quiet"]
        if code := run(["run", str(drawing), *words, *written]):
            raise click.exceptions.Exit(code)
        seen(browser, page, _OPENED).save(page_to, optimize=True)


if __name__ == "__main__":
    main()
