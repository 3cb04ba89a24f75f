"""The picture under the bars: drawn when it is new or has moved, and at no other time.

It lies below what rich redraws ten times a second, so that it neither flickers nor costs anything in between: the last
line of the live lines is empty, and with it goes what draws the picture under itself and comes back.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from rich.console import Console, ConsoleOptions
from rich.segment import ControlType, Segment

from .ways import AUTO, has_all_colours, is_dumb, way_of
from .writing import Cells, erased, fitted, written

if TYPE_CHECKING:
    from PIL import Image

_MOST_ROWS = 24
# What people read above it.
_LINES_ABOVE = 4
_USUAL_CELL = (8, 16)
# Terminals that know it show what comes between as one change; others pass over it.
_AT_ONCE, _DONE = "\x1b[?2026h", "\x1b[?2026l"


class ScreenPicture:
    """A renderable, the last one of live lines. `rows_above` is how many lines there are above it, which may change."""

    def __init__(self, console: Console, way: str, environment: Mapping[str, str] = os.environ) -> None:
        self.way = way_of(environment) if way == AUTO else way
        self.rows_above = 0
        self._console = console
        self._all_colours = has_all_colours(environment)
        self._number = os.getpid() % 0xFFFF + 1
        self._image: Image.Image | None = None
        self._count = 0
        self._hidden = False
        self._drawn: tuple[Any, ...] | None = None

    def show(self, image: Image.Image) -> None:
        """Has a picture drawn at the next refresh."""
        self._image, self._count = image, self._count + 1

    def hide(self) -> None:
        """Has it taken away at the next refresh, until `unhide`."""
        self._hidden = True

    def unhide(self) -> None:
        self._hidden = False

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Segment]:
        # Of a control nothing is counted or wrapped; which one it says to be does not matter.
        yield Segment(self._change(), None, [(ControlType.BELL,)])

    def _change(self) -> str:
        """What makes the terminal show what it should by now; '' where it does."""
        wanted = None if self._hidden or self._image is None else self._image
        size = self._console.size
        state = None if wanted is None else (self._count, wanted.size, size, self.rows_above)
        if state == self._drawn:
            return ""
        moved = self._drawn is not None and (state is None or state[1:] != self._drawn[1:])
        gone = erased(self.way, self._number) + "\x1b[J" if moved else ""
        self._drawn = state
        if wanted is None:
            return gone
        rows = min(_MOST_ROWS, size.height - self.rows_above - _LINES_ABOVE)
        space = Cells(max(1, size.width - 1), max(1, rows), cell())
        cells = fitted(wanted.size, space)
        shown = written(wanted, cells, self.way, all_colours=self._all_colours, number=self._number)
        # Room first, as a picture at the lower edge would move what is above it.
        room = "\n" * (cells.rows + 1) + f"\x1b[{cells.rows + 1}A"
        return f"{_AT_ONCE}{gone}{room}\x1b7\r\x1b[1B{shown}\x1b[0m\x1b8{_DONE}"


def shown_by(console: Console) -> bool:
    """Whether pictures can be shown on a console at all."""
    return console.is_terminal and not console.legacy_windows and not is_dumb(os.environ)


def cell() -> tuple[int, int]:
    """The pixels (width, height) of a cell, where the system knows them."""
    try:
        import fcntl
        import struct
        import termios

        rows, columns, width, height = struct.unpack("HHHH", fcntl.ioctl(2, termios.TIOCGWINSZ, bytes(8)))
        measured = (width // columns, height // rows)
        return measured if min(measured) > 1 else _USUAL_CELL
    except (ImportError, OSError, ZeroDivisionError):  # no terminal, or one of Windows
        return _USUAL_CELL
