"""What people see, all of it on stderr, as plain lines; `bars` has what a terminal shows beside them."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import printable

if TYPE_CHECKING:
    from PIL import Image


def plain(text: str) -> str:
    """A line that moves no cursor and changes no title, whatever a file or its name brought into it."""
    safe = printable(text)
    return f"\\x3a{safe[1:]}" if safe.startswith("::") and on_github() else safe


def on_github() -> bool:
    """Whether GitHub's runner reads along, for whom lines that begin with '::' are commands."""
    return os.environ.get("GITHUB_ACTIONS") == "true"


def lines_of(error: object) -> str:
    """The lines of an error, or of its text, each as `plain` has it."""
    return "\n".join(map(plain, str(error).split("\n")))


@dataclass(frozen=True, slots=True)
class Count:
    """How many pictures ended so, `of` which (a part of another count), and what is to be said of it."""

    word: str
    pictures: int
    of: str = ""
    reason: str = ""


class Reporter:
    """Plain lines. `verbosity`: -1 shows errors alone, 0 what happens, 1 also why and how."""

    def __init__(self, verbosity: int = 0) -> None:
        self.verbosity = verbosity

    def error(self, text: str) -> None:
        """An error in the one or two lines that its text has."""
        self._line(f"sdedit: {lines_of(text)}")

    def warn(self, text: str) -> None:
        if self.verbosity >= 0:
            self._line(f"sdedit: warning: {plain(text)}")

    def note(self, text: str) -> None:
        if self.verbosity >= 0:
            self._line(plain(text))

    def detail(self, text: str) -> None:
        if self.verbosity > 0:
            self._line(plain(text))

    def loading(self, name: str) -> None:
        """The model `name` is being loaded from now on."""

    def picture(self, name: str, number: int, total: int) -> None:
        """Work on picture `number` of `total` starts, or goes on with reading it."""

    def group(self, pictures: int, size: int) -> None:
        """So many pictures are edited from now on, `size` at a time."""

    def ended(self, pictures: int, total: int) -> None:
        """So many of all pictures have ended, made or not."""

    def summary(self, rows: Sequence[Count]) -> None:
        """How a batch ended."""
        self.note(", ".join(f"{row.pictures} {row.word}" for row in rows if not row.of))

    def step(self, done: int, steps: int) -> None:
        """`done` of `steps` steps of the current picture are through."""

    def shows(self, how: str) -> bool:
        """Whether pictures are shown by `look` from now on, in this way of a terminal."""
        del how
        return False

    def look(self, image: Image.Image) -> None:
        """Shows the picture as it is by now."""

    def close(self) -> None:
        """Leaves the terminal as it was."""

    def _line(self, text: str) -> None:
        # A stderr that is closed or full is no reason to lose a picture.
        if sys.stderr is None:  # pyright: ignore[reportUnnecessaryComparison]  (print would take stdout)
            return
        try:
            print(text, file=sys.stderr, flush=True)
        except (OSError, ValueError):
            self.verbosity = -1


def show_warnings(to: Reporter, *, debug: bool) -> None:
    """Python's warnings become lines for people: those meant for users, or all of them when debugging."""

    def show(message: Warning | str, category: type[Warning], *rest: Any) -> None:
        if debug or category is UserWarning:
            to.warn(str(message))

    warnings.showwarning = show
