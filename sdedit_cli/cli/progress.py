"""Progress of work that writes files: a bar on a terminal, and the moments at which a signal ends it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from typing import Any, TypeVar

from ..errors import printable
from ..signals import check

T = TypeVar("T")
Begin = Callable[[int], Callable[[int], None]]


def watched(bar: Begin | None) -> Begin:
    """What `convert` tells its progress: it moves the bar, and ends the work when a signal came meanwhile."""

    def begin(total: int) -> Callable[[int], None]:
        check()
        advance = bar(total) if bar else None

        def told(count: int) -> None:
            check()
            if advance:
                advance(count)

        return told

    return begin


@contextmanager
def byte_bar(name: str) -> Generator[Begin | None, None, None]:
    """A progress bar on a terminal, else nothing: gives what `convert` calls with the number of bytes to come."""
    with _line(name) as line:
        if line is None:
            yield None
            return
        lines, task = line

        def begin(total: int) -> Callable[[int], None]:
            # Every byte is written, then read back and compared.
            lines.update(task, total=total, bytes=True)
            return lambda count: lines.advance(task, count)

        yield begin


def each(things: Iterable[T], total: int, name: str) -> list[T]:
    """All of what is made one after another, with a bar on a terminal; a signal ends the work between two of them."""
    made: list[T] = []
    with _line(name) as line:
        if line is not None:
            line[0].update(line[1], total=total)
        for thing in things:
            made.append(thing)
            check()
            if line is not None:
                line[0].advance(line[1], 1)
    return made


@contextmanager
def _line(name: str) -> Generator[tuple[Any, Any] | None, None, None]:
    # Python has no stderr where it was closed before.
    if sys.stderr is None or not sys.stderr.isatty():  # pyright: ignore[reportUnnecessaryComparison]
        yield None
        return
    from rich.console import Console

    from .bars import lines_on

    with lines_on(Console(stderr=True, markup=False, highlight=False)) as lines:
        yield lines, lines.add_task(printable(name), total=None, what="reading")
