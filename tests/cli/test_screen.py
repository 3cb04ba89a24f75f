"""Pictures in a terminal: what is written means the picture, and the lines around it stay what they are."""

from __future__ import annotations

import base64
import io
import re
from io import StringIO

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from sdedit_cli.cli.bars import Bars
from sdedit_cli.cli.screen.picture import ScreenPicture
from sdedit_cli.cli.screen.ways import WAYS, has_all_colours, way_of
from sdedit_cli.cli.screen.writing import Cells, blocks, fitted, iterm, kitty, sixel

_CELLS = Cells(12, 6, (8, 16))


def _picture(size: tuple[int, int] = (96, 96)) -> Image.Image:
    """Four quarters of plain colours."""
    colours = np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [255, 255, 255]]], dtype=np.uint8)
    return Image.fromarray(colours).resize(size, Image.Resampling.NEAREST)


def _far(one: Image.Image, other: Image.Image) -> float:
    first, second = (
        np.asarray(image.convert("RGB").resize((12, 12), Image.Resampling.BOX), float) for image in (one, other)
    )
    return float(np.abs(first - second).mean())


def _of_blocks(text: str) -> Image.Image:
    """The picture that a terminal shows for half blocks."""
    lines = text.split("\r\x1b[1B")
    rows: list[list[tuple[int, ...]]] = []
    for line in lines:
        above: list[tuple[int, ...]] = []
        below: list[tuple[int, ...]] = []
        for codes, letters in re.findall(r"\x1b\[([0-9;]*)m(▀*)", line):
            if not letters:
                continue
            numbers = [int(part) for part in codes.split(";")]
            if numbers[1] == 2:
                up, low = tuple(numbers[2:5]), tuple(numbers[7:10])
            else:
                up, low = _xterm(numbers[2]), _xterm(numbers[5])
            above += [up] * len(letters)
            below += [low] * len(letters)
        rows += [above, below]
    return Image.fromarray(np.array(rows, dtype=np.uint8))


def _xterm(number: int) -> tuple[int, int, int]:
    if number >= 232:
        return (8 + 10 * (number - 232),) * 3
    levels = (0, 95, 135, 175, 215, 255)
    return levels[(number - 16) // 36], levels[(number - 16) // 6 % 6], levels[(number - 16) % 6]


def _of_sixels(text: str) -> Image.Image:
    """The picture that a terminal shows for sixels."""
    head, body = re.fullmatch(r'\x1bPq"1;1;(\d+;\d+)(.*)\x1b\\', text, re.DOTALL).groups()  # type: ignore[union-attr]
    width, height = map(int, head.split(";"))
    shown = np.full((height, width, 3), 1, dtype=np.uint8)
    palette: dict[int, tuple[int, ...]] = {}
    colour = x = y = 0
    for number, values, mark, count, letter in re.findall(r"#(\d+)(?:;2;([\d;]+))?|([$-])|(?:!(\d+))?([?-~])", body):
        if number:
            colour = int(number)
            if values:
                palette[colour] = tuple(round(int(part) * 2.55) for part in values.split(";"))
        elif mark:
            x, y = 0, y + 6 * (mark == "-")
        else:
            until = x + int(count or 1)
            for bit in range(6):
                if ord(letter) - 63 & 1 << bit:
                    shown[y + bit, x:until] = palette[colour]
            x = until
    return Image.fromarray(shown)


@pytest.mark.parametrize("all_colours", [True, False])
def test_half_blocks_mean_the_picture(all_colours: bool) -> None:
    shown = _of_blocks(blocks(_picture(), _CELLS, all_colours=all_colours))
    assert shown.size == (12, 12)
    assert _far(shown, _picture()) == 0
    greys = Image.fromarray(np.arange(0, 240, 20, dtype=np.uint8).repeat(12).reshape(12, 12)).convert("RGB")
    assert _far(_of_blocks(blocks(greys, _CELLS, all_colours=all_colours)), greys) < (1 if all_colours else 6)


def test_kittys_pieces_are_a_png_over_these_cells_that_takes_the_place_of_the_last() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (96, 96, 3), dtype=np.uint8)
    for image in (_picture(), Image.fromarray(noise)):
        pieces = re.findall(r"\x1b_G([^;]*);([^\x1b]*)\x1b\\", kitty(image, _CELLS, 7))
        keys = dict(part.split("=") for part in pieces[0][0].split(","))
        assert keys == {**keys, "a": "T", "f": "100", "i": "7", "p": "1", "c": "12", "r": "6", "C": "1", "q": "2"}
        more = [dict(part.split("=") for part in head.split(","))["m"] for head, _ in pieces]
        assert more == ["1"] * (len(pieces) - 1) + ["0"]
        assert all(len(piece) <= 4096 for _, piece in pieces)
        shown = Image.open(io.BytesIO(base64.b64decode("".join(piece for _, piece in pieces))))
        assert _far(shown, image) < 1
    assert len(pieces) > 1


def test_iterms_file_is_a_png_over_these_cells() -> None:
    (found,) = re.findall(r"\x1b\]1337;File=([^:]*):([^\x07]*)\x07", iterm(_picture(), _CELLS))
    keys, data = dict(part.split("=") for part in found[0].split(";")), base64.b64decode(found[1])
    assert keys == {**keys, "inline": "1", "width": "12", "height": "6", "size": str(len(data))}
    assert _far(Image.open(io.BytesIO(data)), _picture()) == 0


def test_sixels_mean_the_picture() -> None:
    shown = _of_sixels(sixel(_picture(), _CELLS))
    assert shown.size == (96, 96)
    assert _far(shown, _picture()) < 2


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1), (64, 48), (3000, 20)])
def test_a_picture_of_any_shape_fits_its_space(size: tuple[int, int]) -> None:
    space = Cells(40, 10, (8, 16))
    cells = fitted(size, space)
    assert 1 <= cells.columns <= 40
    assert 1 <= cells.rows <= 10
    if size == (64, 48):
        assert cells.columns * 8 / (cells.rows * 16) == pytest.approx(64 / 48, rel=0.06)
    for write in (kitty(_picture(size), cells, 1), iterm(_picture(size), cells), sixel(_picture(size), cells)):
        assert write
    assert _of_blocks(blocks(_picture(size), cells, all_colours=True)).size == (cells.columns, 2 * cells.rows)


@pytest.mark.parametrize(
    ("environment", "way"),
    [
        ({}, "blocks"),
        ({"TERM": "xterm-256color"}, "blocks"),
        ({"TERM": "xterm-kitty"}, "kitty"),
        ({"TERM": "xterm-256color", "KITTY_WINDOW_ID": "1"}, "kitty"),
        ({"TERM_PROGRAM": "ghostty"}, "kitty"),
        ({"TERM_PROGRAM": "WezTerm"}, "iterm"),
        ({"LC_TERMINAL": "iTerm2"}, "iterm"),
        ({"TERM": "foot-extra"}, "sixel"),
        # A multiplexer passes none of it on, and knows the variables of the terminal that it was started in.
        ({"TMUX": "/tmp/x", "KITTY_WINDOW_ID": "1"}, "blocks"),
        ({"TERM": "screen-256color", "LC_TERMINAL": "iTerm2"}, "blocks"),
        ({"TMUX": "", "KITTY_WINDOW_ID": "1"}, "kitty"),
    ],
)
def test_the_way_follows_from_the_environment(environment: dict[str, str], way: str) -> None:
    assert way_of(environment) == way


def test_colours_follow_from_the_environment() -> None:
    assert has_all_colours({"COLORTERM": "truecolor"})
    assert has_all_colours({"TERM": "xterm-direct"})
    assert not has_all_colours({"TERM": "xterm-256color", "COLORTERM": ""})


@pytest.mark.parametrize("way", WAYS)
def test_a_picture_is_drawn_when_it_is_new_or_has_moved_and_goes_in_the_end(way: str) -> None:
    stream = StringIO()
    console = Console(file=stream, width=60, height=30, force_terminal=True, markup=False, highlight=False)
    to = Bars(0, console)
    assert to.shows(way)
    to.picture("a.png", 1, 1)
    to.step(1, 9)
    to.step(2, 9)

    def drawn() -> int:
        told = stream.getvalue()
        stream.seek(0)
        stream.truncate()
        return told.count("\x1b7\r\x1b[1B")

    drawn()
    to.look(_picture())
    assert drawn() == 1
    assert to._progress is not None
    for _ in range(3):
        to._progress.refresh()
    assert drawn() == 0
    to.look(_picture())
    assert drawn() == 1
    to.note("a line above")
    to._progress.refresh()
    assert drawn() == 1
    to.look(_picture((30, 90)))
    to.close()
    told = stream.getvalue()
    assert drawn() == 1
    # Below the lines nothing stays.
    assert told.rindex("\x1b[J") > told.rindex("\x1b7")
    assert ("a=d,d=I" in told) == (way == "kitty")


def test_a_dumb_terminal_shows_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    assert not Bars(0, Console(file=StringIO(), force_terminal=True)).shows("auto")


def test_a_terminal_of_a_few_lines_is_not_overrun() -> None:
    console = Console(file=StringIO(), width=10, height=5, force_terminal=True)
    picture = ScreenPicture(console, "blocks", {})
    picture.rows_above = 2
    picture.show(_picture())
    (segment,) = picture.__rich_console__(console, console.options)
    assert segment.text.count("▀") <= 9
    assert "\n\n\x1b[2A" in segment.text
