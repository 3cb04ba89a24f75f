"""What people see, all of it on stderr: plain lines, and bars on a terminal."""

from __future__ import annotations

import sys
import warnings
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ..errors import printable

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


def plain(text: str) -> str:
    """Lines that move no cursor and change no title, whatever a file or its name brought into them."""
    return "\n".join(map(printable, text.split("\n")))


class Reporter:
    """Plain lines. `verbosity`: -1 shows errors alone, 0 what happens, 1 also why and how."""

    def __init__(self, verbosity: int = 0) -> None:
        self.verbosity = verbosity

    def error(self, text: str) -> None:
        self._line(f"sdedit: {plain(text)}")

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

    def step(self, done: int, steps: int) -> None:
        """`done` of `steps` steps of the current picture are through."""

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


class Bars(Reporter):
    """Lines above bars for pictures and steps."""

    def __init__(self, verbosity: int = 0) -> None:
        super().__init__(verbosity)
        # Loaded here, as only a terminal has a use for it.
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn, TimeRemainingColumn

        columns: list[Any] = [
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        ]
        self._columns = columns
        self._console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
        self._progress: Progress | None = None
        self._pictures: TaskID | None = None
        self._steps: TaskID | None = None

    def _shown(self) -> Progress:
        if self._progress is None:
            from rich.progress import Progress

            self._progress = Progress(*self._columns, console=self._console, transient=True)
            self._progress.start()
        return self._progress

    def loading(self, name: str) -> None:
        self._steps = self._fresh(self._steps, f"loading {name}", None)

    def picture(self, name: str, number: int, total: int) -> None:
        if total > 1:
            if self._pictures is None:
                self._pictures = self._shown().add_task("pictures", total=total)
            self._shown().update(self._pictures, completed=number - 1)
        self._steps = self._fresh(self._steps, name, None)

    def step(self, done: int, steps: int) -> None:
        if self._steps is not None:
            self._shown().update(self._steps, completed=done, total=steps)

    def _fresh(self, task: TaskID | None, text: str, total: int | None) -> TaskID:
        progress = self._shown()
        if task is not None:
            progress.remove_task(task)
        return progress.add_task(text, total=total)

    def close(self) -> None:
        if self._progress is not None:
            # A terminal that is gone is no reason to lose what was to be said by the exit code.
            with suppress(OSError, ValueError):
                self._progress.stop()
            self._progress = None

    def _line(self, text: str) -> None:
        try:
            self._console.print(text)
        except (OSError, ValueError):
            self.verbosity = -1


def reporter(verbosity: int) -> Reporter:
    """Bars when people watch, lines otherwise."""
    watched = verbosity >= 0 and sys.stderr is not None and sys.stderr.isatty()
    return Bars(verbosity) if watched else Reporter(verbosity)


def show_warnings(to: Reporter, *, debug: bool) -> None:
    """Python's warnings become lines for people: those meant for users, or all of them when debugging."""

    def show(message: Warning | str, category: type[Warning], *rest: Any) -> None:
        if debug or category is UserWarning:
            to.warn(str(message))

    warnings.showwarning = show
