"""The picture of `--preview` in docs/command-line.md: `python -m training.previewed` edits in a terminal of tmux."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import click
from PIL import Image, ImageDraw, ImageFont

COLUMNS, ROWS = 56, 18
DRAWING = "tiger"
_CELL = 7, 14
_Colour = tuple[int, ...]
_INK, _GROUND = (204, 204, 204), (0, 0, 0)
_BARS = "━╸╺"
_PATIENCE = 120  # seconds
# What is drawn by what tmux says: colours by number, or a letter.
_TOLD = re.compile(r"\x1b\[([0-9;]*)m|([^\x1b\n])")


def painted(capture: str) -> Image.Image:
    """The picture of a terminal's lines as `tmux capture-pane -e` gives them: letters, bars and half blocks."""
    width, height = _CELL
    image = Image.new("RGB", (COLUMNS * width, ROWS * height), _GROUND)
    draw, font = ImageDraw.Draw(image), _font(height - 3)
    for row, line in enumerate(capture.split("\n")[:ROWS]):
        column = 0
        ink: _Colour = _INK
        ground: _Colour = _GROUND
        for codes, letter in _TOLD.findall(line):
            if not letter:
                ink, ground = _colours([int(code or 0) for code in codes.split(";")], ink, ground)
                continue
            x, y, middle = column * width, row * height, row * height + height // 2
            draw.rectangle((x, y, x + width - 1, y + height - 1), ground)
            if "⠀" <= letter <= "⣿":
                letter = "*"  # the dots of a spinner, which few fonts have
            if letter == "▀":
                draw.rectangle((x, y, x + width - 1, middle - 1), ink)
            elif letter in _BARS:
                draw.rectangle((x, middle - 1, x + width - 1, middle), ink)
            else:
                draw.text((x, y - 1), letter, ink, font)
            column += 1
    return image


def _font(size: int) -> Any:
    try:
        return ImageFont.truetype("DejaVuSansMono.ttf", size)
    except OSError:
        return ImageFont.load_default(size)


def _colours(
    codes: list[int], ink: tuple[int, ...], ground: tuple[int, ...]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    while codes:
        code = codes.pop(0)
        if code in (38, 48) and codes[:1] == [2]:
            colour, codes = tuple(codes[1:4]), codes[4:]
            ink, ground = (colour, ground) if code == 38 else (ink, colour)
        elif code in (0, 39, 49):
            ink, ground = (_INK if code != 49 else ink), (_GROUND if code != 39 else ground)
    return ink, ground


def captures(presets: Path, wanted: int) -> list[str]:
    """The terminal's lines at so many different moments at which a picture is seen on it."""
    tmux = ["tmux", "-L", f"sdedit-{os.getpid()}"]
    seen: list[str] = []
    with tempfile.TemporaryDirectory() as place:
        edit = ["run", f"{DRAWING}.png", "-o", f"{place}/{DRAWING}.png"]
        edit += ["--preset", str((presets / f"drawing-{DRAWING}.toml").absolute()), "--steps", "80", "--preview"]
        where = ["-c", str((presets / "strokes").absolute()), "-x", str(COLUMNS), "-y", str(ROWS)]
        command = [sys.executable, "-m", "sdedit_cli", *edit]
        environment = {**os.environ, "COLORTERM": "truecolor", "PYTHONPATH": os.getcwd()}
        subprocess.run([*tmux, "new-session", "-d", *where, *command], check=True, env=environment)
        until = time.monotonic() + _PATIENCE
        try:
            while len(seen) < wanted and time.monotonic() < until:
                done = subprocess.run([*tmux, "capture-pane", "-e", "-p"], capture_output=True, text=True, check=False)
                if done.returncode:
                    break  # the edit has ended, and the terminal with it
                shown = _shown(done.stdout)
                if shown and (not seen or shown != _shown(seen[-1])):
                    seen.append(done.stdout)
                time.sleep(0.05)
        finally:
            subprocess.run([*tmux, "kill-server"], check=False, stderr=subprocess.DEVNULL)
    return seen


def _shown(capture: str) -> list[str]:
    """The lines of the picture alone."""
    return [line for line in capture.split("\n") if "▀" in line]


@click.command()
@click.option("--presets", type=click.Path(path_type=Path, exists=True), default=Path("presets"), show_default=True)
@click.option("--to", type=click.Path(path_type=Path), default=Path("docs/pictures/preview.png"), show_default=True)
def main(presets: Path, to: Path) -> None:
    """Write two moments of a terminal beside each other."""
    seen = captures(presets, 8)
    if len(seen) < 2:
        raise click.ClickException("no picture was seen on the terminal; is there a tmux?")
    moments = [painted(capture) for capture in (seen[0], seen[-1])]
    width, height = moments[0].size
    sheet = Image.new("RGB", (2 * width + 8, height), "white")
    for number, moment in enumerate(moments):
        sheet.paste(moment, (number * (width + 8), 0))
    sheet.save(to, optimize=True)


if __name__ == "__main__":
    main()
