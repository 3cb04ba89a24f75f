"""The sheet of a sweep: one picture with all of its pictures, the axes labelled by their values."""

from __future__ import annotations

import io
import itertools
import math
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from ..errors import UsageError
from ..pictures.xmp import KEY, packet
from .sweep import Sweep

if TYPE_CHECKING:
    from PIL import Image, ImageDraw, ImageFont

# Up to so many pictures, so many pixels on the longer side of each.
_SIDES = ((36, 256), (144, 192), (400, 128))
_SMALLEST_SIDE = 96
_LINE_OF_ONE = 2000  # pixels
_LONGEST_SHEET = 32_000  # pixels a side, that viewers still show
FACTS_KEY = "sdedit-sweep"
MARGIN, GAP = 16, 6
PAPER, INK, SOFT, LINE, FAILED = "#ffffff", "#1c1c1a", "#63635e", "#dcdcd6", "#b3261e"
_TITLE, TEXT = 18, 14
_ROW_LABEL = 150  # pixels at most
_HEADER_TEXT = 420  # pixels at least


@dataclass(frozen=True, slots=True)
class Tile:
    """A picture as the sheet shows it; without one, why there is none."""

    image: Image.Image | None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Sheet:
    """What a sheet shows: a tile for each place of the axes, the input, what holds of all, and a plot beside it."""

    sweep: Sweep
    tiles: Mapping[tuple[int, ...], Tile]
    input: Image.Image
    title: str
    lines: Sequence[str]
    plot: Image.Image | None = None


def side_of(sweep: Sweep) -> int:
    """How large a picture of the sweep may be on its sheet. Raises UsageError where an axis is too long for one."""
    side = next((side for most, side in _SIDES if sweep.size <= most), _SMALLEST_SIDE)
    across, down, blocks = _counts(sweep, side)
    if max(across, down * blocks) * (side + GAP) > _LONGEST_SHEET - 2000:
        raise UsageError(
            f"--sweep: no sheet holds {across} pictures across and {down * blocks} down; use 'sdedit batch'"
        )
    return side


def shown_at(image: Image.Image, side: int) -> Image.Image:
    """The picture no larger than `side`; a small one enlarged pixel by pixel, as far as it goes."""
    from PIL import Image as Pillow

    longest = max(image.size)
    if longest * 2 <= side:
        factor = side // longest
        return image.resize((image.width * factor, image.height * factor), Pillow.Resampling.NEAREST)
    return shrunk(image, side)


def shrunk(image: Image.Image, side: int) -> Image.Image:
    """The picture no larger than `side`."""
    from PIL import Image as Pillow

    small = image.copy()
    small.thumbnail((side, side), Pillow.Resampling.LANCZOS)
    return small


def drawn(sheet: Sheet) -> Image.Image:
    """The sheet as a picture."""
    from PIL import Image as Pillow
    from PIL import ImageDraw

    grid = _Grid.of(sheet)
    above = max(sheet.input.height + TEXT + GAP, (len(sheet.lines) + 2) * (TEXT + GAP)) + MARGIN
    left = max(grid.width, sheet.input.width + MARGIN + _HEADER_TEXT)
    plot = sheet.plot.size if sheet.plot else (-MARGIN, 0)
    size = (left + plot[0] + 3 * MARGIN, max(above + grid.height, plot[1]) + 2 * MARGIN)
    paper = Pillow.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(paper)
    _head(paper, draw, sheet, left)
    grid.draw(paper, draw, sheet, (MARGIN, MARGIN + above))
    if sheet.plot:
        paper.paste(sheet.plot, (left + 2 * MARGIN, MARGIN))
    return paper


def _head(paper: Image.Image, draw: ImageDraw.ImageDraw, sheet: Sheet, width: int) -> None:
    paper.paste(sheet.input, (MARGIN, MARGIN))
    draw.text((MARGIN, MARGIN + sheet.input.height + 2), "input", SOFT, font(TEXT))
    x, y = MARGIN + sheet.input.width + MARGIN, MARGIN
    room = width - sheet.input.width - MARGIN
    draw.text((x, y), cut(sheet.title, _TITLE, room), INK, font(_TITLE))
    for number, line in enumerate(sheet.lines):
        place = (x, y + _TITLE + GAP + 4 + number * (TEXT + GAP))
        draw.text(place, cut(line, TEXT, room), SOFT, font(TEXT))


@dataclass(frozen=True)
class _Grid:
    """Where the blocks, rows and columns of a sheet are."""

    across: int
    down: int
    blocks: int
    cell: tuple[int, int]
    label: int  # the width of the labels of rows
    titled: int  # the height of the title of a block
    pitch: int  # from row to row

    @classmethod
    def of(cls, sheet: Sheet) -> _Grid:
        images = [sheet.input, *(tile.image for tile in sheet.tiles.values() if tile.image)]
        cell = (max(72, *(image.width for image in images)), max(72, *(image.height for image in images)))
        across, down, blocks = _counts(sheet.sweep, cell[0])
        rows = sheet.sweep.down
        # Lines of a single option each have its values above them.
        pitch = cell[1] + GAP + (0 if rows else TEXT + GAP)
        names = [*rows.labels, rows.key] if rows else []
        label = max((min(_ROW_LABEL, width_of(name, TEXT)) + 2 * GAP for name in names), default=0)
        return cls(across, down, blocks, cell, label, TEXT + 2 * GAP if sheet.sweep.further else 0, pitch)

    @property
    def width(self) -> int:
        return self.label + self.across * (self.cell[0] + GAP)

    @property
    def _block(self) -> int:
        return self.titled + 2 * (TEXT + GAP) + self.down * self.pitch + MARGIN

    @property
    def height(self) -> int:
        return self.blocks * self._block

    def draw(self, paper: Image.Image, draw: ImageDraw.ImageDraw, sheet: Sheet, at: tuple[int, int]) -> None:
        for number, (places, title) in enumerate(sheet.sweep.blocks):
            x, y = at[0], at[1] + number * self._block
            if title:
                draw.line((x, y, x + self.width - GAP, y), LINE)
                draw.text((x, y + GAP), cut(title, TEXT, self.width), INK, font(TEXT))
            self._draw_block(paper, draw, sheet, (x, y + self.titled), places)

    def _draw_block(
        self, paper: Image.Image, draw: ImageDraw.ImageDraw, sheet: Sheet, at: tuple[int, int], places: tuple[int, ...]
    ) -> None:
        columns, rows, (width, height) = sheet.sweep.across, sheet.sweep.down, self.cell
        left, top = at[0] + self.label, at[1] + 2 * (TEXT + GAP)
        draw.text((left, at[1]), cut(columns.key, TEXT, self.width - self.label), SOFT, font(TEXT))
        if rows:
            draw.text((at[0], top - TEXT - GAP), cut(rows.key, TEXT, self.label - GAP), SOFT, font(TEXT))
        for column, row in itertools.product(range(self.across), range(self.down)):
            x, y = left + column * (width + GAP), top + row * self.pitch
            one = column if rows else row * self.across + column
            if one >= len(columns.values):
                continue
            if row == 0 or not rows:
                draw.text((x, y - TEXT - GAP), cut(columns.labels[one], TEXT, width), INK, font(TEXT))
            if column == 0 and rows:
                text = cut(rows.labels[row], TEXT, self.label - GAP)
                draw.text((at[0], y + (height - TEXT) // 2), text, INK, font(TEXT))
            place = (one, *([row] if rows else []), *places)
            self._draw_tile(paper, draw, sheet.tiles[place], (x, y))

    def _draw_tile(self, paper: Image.Image, draw: ImageDraw.ImageDraw, tile: Tile, at: tuple[int, int]) -> None:
        (x, y), (width, height) = at, self.cell
        if tile.image:
            left, top = x + (width - tile.image.width) // 2, y + (height - tile.image.height) // 2
            paper.paste(tile.image, (left, top))
            draw.rectangle((left - 1, top - 1, left + tile.image.width, top + tile.image.height), outline=LINE)
            return
        draw.rectangle((x, y, x + width - 1, y + height - 1), "#f7eceb", FAILED)
        lines = ["failed", *_wrapped(tile.problem, TEXT - 2, width - 2 * GAP)]
        for number, line in enumerate(lines[: max(1, (height - GAP) // (TEXT + 2))]):
            draw.text((x + GAP, y + GAP + number * (TEXT + 2)), line, FAILED, font(TEXT if number == 0 else TEXT - 2))


def _counts(sweep: Sweep, width: int) -> tuple[int, int, int]:
    """How many pictures of that width are across, down and in blocks; a single option that is too long for a line goes
    on in the next."""
    across = len(sweep.across.values)
    if sweep.down:
        return across, len(sweep.down.values), len(sweep.blocks)
    lines = math.ceil(across / max(1, _LINE_OF_ONE // (width + GAP)))
    return math.ceil(across / lines), lines, 1


@cache
def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own font, which is everywhere the same."""
    from PIL import ImageFont

    return ImageFont.load_default(size)


def drawable(text: str) -> str:
    """The text in the letters that Pillow's font has: accents are left out, and other letters are '?'."""
    plain = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return "".join(c if " " <= c <= "~" else " " if c.isspace() else "?" for c in plain)


def width_of(text: str, size: int) -> int:
    return round(font(size).getlength(drawable(text)))


def cut(text: str, size: int, room: int) -> str:
    """The text as it can be drawn, or its beginning with dots, in so many pixels."""
    whole = drawable(text[:1000])
    if width_of(whole, size) <= room:
        return whole
    low, high = 0, len(whole)
    while low < high:  # the longest beginning that fits
        middle = (low + high + 1) // 2
        low, high = (middle, high) if width_of(f"{whole[:middle]}...", size) <= room else (low, middle - 1)
    return f"{whole[:low].rstrip()}..."


def _wrapped(text: str, size: int, room: int) -> list[str]:
    lines = [""]
    for word in drawable(text[:400]).split():
        longer = f"{lines[-1]} {word}".strip()
        if width_of(longer, size) <= room:
            lines[-1] = longer
        else:
            lines.append(cut(word, size, room))
    return [line for line in lines if line]


def png_of(image: Image.Image, facts: str) -> bytes:
    """The bytes of a sheet, marked as made with a model, with the text of what made it; without both where it is ''."""
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    if facts:
        info.add_text(FACTS_KEY, facts)
        info.add_itxt(KEY, packet(b"", image.size, marked=True).decode())
    buffer = io.BytesIO()
    image.save(buffer, "png", pnginfo=info)
    return buffer.getvalue()
