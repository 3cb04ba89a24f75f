"""What is written to a terminal for it to show a picture in so many cells from the cursor on.

Nothing here moves the cursor back: callers save it first. Half blocks are two pixels a cell, one above the other;
https://sw.kovidgoyal.net/kitty/graphics-protocol, https://iterm2.com/documentation-images.html and DEC's VT330/340
manual, chapter 14 (sixel), describe the others.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

from .ways import BLOCKS, ITERM, KITTY

if TYPE_CHECKING:
    from PIL import Image

# Terminals take longer commands in pieces of this size.
_PIECE = 4096
# More pixels than a preview has to say anything about.
_MOST_PIXELS = 320
# The colours of a sixel picture: each costs a pass over every band.
_COLOURS = 64
_LEVELS = (0, 95, 135, 175, 215, 255)


@dataclass(frozen=True, slots=True)
class Cells:
    """A space of so many cells on a terminal whose cells have so many pixels (width, height)."""

    columns: int
    rows: int
    pixels: tuple[int, int]


def fitted(size: tuple[int, int], space: Cells) -> Cells:
    """The largest part of a space that has the shape of a picture of this size (width, height)."""
    width, height = size
    cell_width, cell_height = space.pixels
    scale = min(space.columns * cell_width / width, space.rows * cell_height / height)
    columns = min(space.columns, max(1, round(width * scale / cell_width)))
    rows = min(space.rows, max(1, round(height * scale / cell_height)))
    return Cells(columns, rows, space.pixels)


def written(image: Image.Image, cells: Cells, way: str, *, all_colours: bool, number: int) -> str:
    """The characters that show a picture; `number` names it where a later one takes its place."""
    if way == BLOCKS:
        return blocks(image, cells, all_colours=all_colours)
    if way == KITTY:
        return kitty(image, cells, number)
    return iterm(image, cells) if way == ITERM else sixel(image, cells)


def erased(way: str, number: int) -> str:
    """What takes a picture away that erasing its cells leaves."""
    return f"\x1b_Ga=d,d=I,i={number},q=2\x1b\\" if way == KITTY else ""


def blocks(image: Image.Image, cells: Cells, *, all_colours: bool) -> str:
    """Upper half blocks: the pixel above is the colour of the letter, the one below that of its ground."""
    from PIL import Image

    small = image.resize((cells.columns, 2 * cells.rows), Image.Resampling.BOX)
    data = small.tobytes()
    colours = [tuple(data[at : at + 3]) for at in range(0, len(data), 3)]
    rows = [colours[at : at + cells.columns] for at in range(0, len(colours), cells.columns)]
    code = _deep if all_colours else _of_256
    return _below(_half_blocks(above, below, code) for above, below in zip(rows[::2], rows[1::2], strict=True))


def _half_blocks(above: list[Any], below: list[Any], code: Any) -> str:
    pairs = ((code(one), code(other)) for one, other in zip(above, below, strict=True))
    runs = ((pair, sum(1 for _ in run)) for pair, run in groupby(pairs))
    return "".join(f"\x1b[38;{up};48;{low}m" + "▀" * count for (up, low), count in runs) + "\x1b[0m"


def _deep(colour: tuple[int, int, int]) -> str:
    return f"2;{colour[0]};{colour[1]};{colour[2]}"


def _of_256(colour: tuple[int, int, int]) -> str:
    """The nearest of the cube of 6 x 6 x 6 colours and the 24 greys."""
    cube = [min(range(6), key=lambda n, value=value: abs(_LEVELS[n] - value)) for value in colour]
    grey = min(23, max(0, round((sum(colour) / 3 - 8) / 10)))
    far = sum((_LEVELS[n] - value) ** 2 for n, value in zip(cube, colour, strict=True))
    far_of_grey = sum((8 + 10 * grey - value) ** 2 for value in colour)
    return f"5;{232 + grey if far_of_grey < far else 16 + 36 * cube[0] + 6 * cube[1] + cube[2]}"


def kitty(image: Image.Image, cells: Cells, number: int) -> str:
    """A PNG that the terminal stretches over the cells, in place of the one of this number; nothing is answered."""
    data = base64.b64encode(_png(image, cells)).decode("ascii")
    pieces = [data[at : at + _PIECE] for at in range(0, len(data), _PIECE)]
    head = f"a=T,f=100,i={number},p=1,c={cells.columns},r={cells.rows},C=1,q=2,"
    return "".join(
        f"\x1b_G{'' if n else head}m={int(n < len(pieces) - 1)};{piece}\x1b\\" for n, piece in enumerate(pieces)
    )


def iterm(image: Image.Image, cells: Cells) -> str:
    """A PNG as an inline file, stretched over the cells."""
    data = _png(image, cells)
    facts = f"inline=1;size={len(data)};width={cells.columns};height={cells.rows};preserveAspectRatio=0"
    return f"\x1b]1337;File={facts};doNotMoveCursor=1:{base64.b64encode(data).decode('ascii')}\x07"


def _png(image: Image.Image, cells: Cells) -> bytes:
    buffer = io.BytesIO()
    _shrunk(image, cells).save(buffer, "png", compress_level=1)
    return buffer.getvalue()


def _shrunk(image: Image.Image, cells: Cells) -> Image.Image:
    """The picture at the size of its cells or below."""
    size = (cells.columns * cells.pixels[0], cells.rows * cells.pixels[1])
    scale = min(1.0, _MOST_PIXELS / max(size), max(image.size) / max(size))
    width, height = (max(1, round(side * scale)) for side in size)
    return image.resize((width, height))


def sixel(image: Image.Image, cells: Cells) -> str:
    """Bands of six rows: in each, for every colour, which of the six pixels of a column have it."""
    import numpy as np
    from PIL import Image

    width, height = cells.columns * cells.pixels[0], cells.rows * cells.pixels[1]
    scale = min(1.0, _MOST_PIXELS / max(width, height))
    # A terminal shows these pixels as they are, so a part of a cell may stay empty.
    width, height = max(1, int(width * scale)), max(6, int(height * scale) // 6 * 6)
    inked = image.resize((width, height)).quantize(_COLOURS, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    palette = inked.getpalette() or []
    known = [palette[at : at + 3] for at in range(0, len(palette), 3)]
    registers = (
        f"#{n};2;" + ";".join(str(round(value / 255 * 100)) for value in colour) for n, colour in enumerate(known)
    )
    pixels = np.asarray(inked).reshape(height // 6, 6, width)
    bits = (1 << np.arange(6)).reshape(6, 1)
    bands = "-".join(
        "$".join(
            f"#{colour}{_packed(((band == colour) * bits).sum(axis=0).astype(np.uint8) + 63)}"
            for colour in np.unique(band).tolist()
        )
        for band in pixels
    )
    return f'\x1bPq"1;1;{width};{height}{"".join(registers)}{bands}\x1b\\'


def _packed(letters: Any) -> str:
    """A row of sixels with runs as counts."""
    runs = ((letter, sum(1 for _ in run)) for letter, run in groupby(letters.tobytes().decode("ascii")))
    return "".join(f"!{count}{letter}" if count > 3 else letter * count for letter, count in runs)


def _below(lines: Iterator[str]) -> str:
    """Lines under each other, wherever the first begins."""
    return "\r\x1b[1B".join(lines)
