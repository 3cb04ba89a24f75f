"""Bars on a terminal: one line a task that keeps its bar and its numbers at any width, and shortens the name."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len
from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TaskID
from rich.progress_bar import ProgressBar
from rich.table import Column, Table
from rich.text import Text

from ..errors import printable
from .render import Count, Reporter

if TYPE_CHECKING:
    from PIL import Image

    from .screen.picture import ScreenPicture

_BAR, _TIME = 24, len("0:00:00 left")
# The spinner, and what lies between columns.
_GAPS = 5
# All lines share the widths of their columns.
_NUMBERS = len("encoding")
# How many seconds of progress the time left is told from: a picture may take minutes.
_REMEMBERED = 600
# Narrower terminals show no time.
_ROOM_FOR_TIME = 48


class Bars(Reporter):
    """Lines above bars for pictures and steps."""

    def __init__(self, verbosity: int = 0, console: Console | None = None) -> None:
        super().__init__(verbosity)
        self._console = console or Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
        self._progress: Progress | None = None
        self._pictures: TaskID | None = None
        self._steps: TaskID | None = None
        self._name = ""
        self._started = 0.0
        self._picture: ScreenPicture | None = None

    def shows(self, how: str) -> bool:
        from .screen.picture import ScreenPicture, shown_by

        if shown_by(self._console):
            self._picture = ScreenPicture(self._console, how)
        return self._picture is not None

    def look(self, image: Image.Image) -> None:
        if self._picture is not None:
            self._picture.show(image)
            self._shown().refresh()  # at once, so that who asked for it waits for it, and knows what it costs

    @contextmanager
    def _without_picture(self) -> Generator[None, None, None]:
        """Within it the picture under the bars is not there, so that these can move."""
        if self._picture is None or self._progress is None:
            yield
            return
        self._picture.hide()
        self._progress.refresh()
        try:
            yield
        finally:
            self._picture.unhide()

    def _shown(self) -> Progress:
        if self._progress is None:
            self._progress = lines_on(self._console, self._picture)
            self._progress.start()
        return self._progress

    def loading(self, name: str) -> None:
        self._busy(name, "loading")

    def picture(self, name: str, number: int, total: int) -> None:
        if total > 1 and self._pictures is None:
            self.ended(0, total)
        self._name = name
        self._busy(name, "encoding")

    def group(self, pictures: int, size: int) -> None:
        self._name = f"{pictures} picture{'s' * (pictures > 1)}, {size} at a time"
        self._busy(self._name, "encoding")

    def ended(self, pictures: int, total: int) -> None:
        if total == 1:
            return
        if self._pictures is None:
            self._pictures = self._shown().add_task("pictures", total=total, left=None)
        facts: dict[str, Any] = {}
        if pictures and self._started:
            speed = pictures / max(time.monotonic() - self._started, 1e-3)
            facts = {"description": f"pictures, {rate_text(speed)}", "left": (total - pictures) / speed}
        self._shown().update(self._pictures, completed=pictures, **facts)

    def summary(self, rows: Sequence[Count]) -> None:
        if self.verbosity < 0:
            return
        self.close()
        table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
        table.add_column(no_wrap=True)
        table.add_column(justify="right", no_wrap=True)
        table.add_column()
        for row in rows:
            name = f"  {row.word}" if row.of else row.word
            table.add_row(name, f"{row.pictures:,}", printable(row.reason))
        with suppress(OSError, ValueError):
            self._console.print(table, soft_wrap=False)

    def step(self, done: int, steps: int) -> None:
        self._started = self._started or time.monotonic()  # loading a model says nothing of how fast it is
        if done >= steps:
            self._busy(self._name, "decoding")
        elif self._steps is not None:
            name = printable(self._name)  # until now it may have been the model's
            self._shown().update(self._steps, completed=done, total=steps, description=name)

    def _busy(self, name: str, what: str) -> None:
        """A bar that moves without an end in sight, and says what is being done."""
        progress = self._shown()
        if self._steps is not None:
            progress.remove_task(self._steps)
        self._steps = progress.add_task(printable(name), total=None, what=what)

    def close(self) -> None:
        if self._progress is not None:
            # A terminal that is gone is no reason to lose what was to be said by the exit code.
            with suppress(OSError, ValueError), self._without_picture():
                self._progress.stop()
            self._progress = None

    def _line(self, text: str) -> None:
        try:
            with self._without_picture():
                self._console.print(text)
        except (OSError, ValueError):
            self.verbosity = -1


class _Lines(Progress):
    """Lines with a picture under them."""

    picture: ScreenPicture | None = None

    def get_renderables(self) -> Iterable[RenderableType]:
        tasks = self.tasks
        yield self.make_tasks_table(tasks)
        if self.picture is not None:
            self.picture.rows_above = len(tasks)
            yield self.picture


def lines_on(console: Console, picture: ScreenPicture | None = None) -> Progress:
    """Lines of a spinner, a name, a bar, numbers and the time left; each keeps to one line at any width. Under them is
    `picture`.

    A task without a total shows its field `what`; one with the field `bytes` is counted in gigabytes; `left` are the
    seconds left of one that knows better than its latest progress tells.
    """
    columns = (SpinnerColumn(table_column=_one_line()), _Name(console), _Bar(console), _Done(), _Left(console))
    lines = _Lines(*columns, console=console, transient=True, speed_estimate_period=_REMEMBERED)
    lines.picture = picture
    return lines


def _one_line() -> Column:
    return Column(no_wrap=True)


def bar_width(width: int) -> int:
    """The cells of a bar on a terminal of so many."""
    return max(4, min(_BAR, width // 4))


class _Bar(BarColumn):
    """The bar, as wide as suits the terminal at the moment."""

    def __init__(self, console: Console) -> None:
        super().__init__(table_column=_one_line())
        self._console = console

    def render(self, task: Task) -> ProgressBar:
        self.bar_width = bar_width(self._console.width)
        return super().render(task)


class _Name(ProgressColumn):
    """The name, cut in the middle to what the bar and the numbers leave of the line."""

    def __init__(self, console: Console) -> None:
        super().__init__(_one_line())
        self._console = console

    def render(self, task: Task) -> Text:
        width = self._console.width
        time = _TIME if width >= _ROOM_FOR_TIME else 0
        return Text(cut(task.description, width - bar_width(width) - max(_NUMBERS, len(_numbers(task))) - time - _GAPS))


class _Done(ProgressColumn):
    """Steps done of all, or what is being done while nobody can count."""

    def __init__(self) -> None:
        super().__init__(_one_line())

    def render(self, task: Task) -> Text:
        return Text(_numbers(task), style="progress.download")


class _Left(ProgressColumn):
    """The time left, once it can be told and there is room for it."""

    def __init__(self, console: Console) -> None:
        super().__init__(_one_line())
        self._console = console

    def render(self, task: Task) -> Text:
        fields: dict[str, Any] = task.fields
        seconds: float | None = fields.get("left", task.time_remaining)
        if task.total is None or seconds is None or self._console.width < _ROOM_FOR_TIME:
            return Text("")
        return Text(time_text(seconds), style="progress.remaining")


def _numbers(task: Task) -> str:
    fields: dict[str, Any] = task.fields
    if task.total is None:
        return str(fields.get("what", ""))
    if fields.get("bytes"):
        return f"{task.completed / 1e9:.1f}/{task.total / 1e9:.1f} GB"
    return f"{int(task.completed)}/{int(task.total)}"


def time_text(seconds: float) -> str:
    """'1:05 left'."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02} left" if hours else f"{minutes}:{rest:02} left"


def rate_text(a_second: float) -> str:
    """'2.4/s', or '3.1/min' of what takes longer."""
    return f"{a_second:.1f}/s" if a_second >= 1 else f"{a_second * 60:.1f}/min"


def cut(name: str, cells: int) -> str:
    """A name in at most so many cells of a terminal, without its middle where it is longer: both ends tell names
    apart."""
    if cell_len(name) <= cells:
        return name
    if cells < 2:
        return ""
    head, tail = "", ""
    for character in name:
        if cell_len(head + character) > (cells - 1) // 3:
            break
        head += character
    for character in reversed(name):
        if cell_len(head + character + tail) > cells - 1:
            break
        tail = character + tail
    return f"{head}…{tail}"
