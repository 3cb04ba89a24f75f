"""Jobs from a stream, a line of JSON each: read when the one before is done, so that a writer who is faster waits."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import BinaryIO

from ..errors import JobFileError
from .journal import Known
from .json_lines import row_of_json
from .rows import Row
from .survey import Item

MAX_LINE = 1_000_000


def rows_from(stream: BinaryIO) -> Iterator[Row]:
    """A row for each line that is not blank, until the stream ends. A line that is none is a row with a problem."""
    number = 0
    while line := stream.readline(MAX_LINE + 1):
        number += 1
        place = f"stdin, line {number}"
        if len(line) > MAX_LINE:
            yield Row("", "", place=place, problem=f"{place}: has more than {MAX_LINE:,} bytes")
            while line and not line.endswith(b"\n"):
                line = stream.readline(MAX_LINE)
        elif line.strip():
            # As in a list: bytes that are no UTF-8 stay as they are in the names of files, and options refuse them.
            yield row_of_json(line.decode("utf-8-sig" if number == 1 else "utf-8", "surrogateescape"), place, "")


def _asked(source: str, facts: Mapping[str, str]) -> tuple[str, Mapping[str, str]]:
    """What a picture is asked for: an input that was written to since is edited anew, into the same output."""
    return source, {name: fact for name, fact in facts.items() if name != "input"}


def _asked_by(item: Item) -> tuple[str, Mapping[str, str]]:
    return _asked(item.job.source, item.account.facts)


def _place(item: Item) -> str:
    """Equal for outputs that are one file, by links or where names differ in case alone."""
    return os.path.realpath(item.target.shown).casefold()


class Claims:
    """The outputs that the jobs of a stream have by now. Of a list it is known beforehand which of them clash."""

    def __init__(self) -> None:
        self._owners: dict[str, tuple[str, object]] = {}

    def check(self, items: Sequence[Item], place: str) -> None:
        """Raises JobFileError where an output of the job at `place` is another picture of an earlier job."""
        for item in items:
            first, asked = self._owners.get(_place(item), (place, _asked_by(item)))
            if asked != _asked_by(item):
                raise JobFileError(
                    f"{place}: {item.target.shown} is another picture already, that of {first}; "
                    "give each job an output of its own, or a DEST such as 'out/{stem}-{index}.png'"
                )

    def add(self, items: Sequence[Item], place: str, known: Mapping[str, Known]) -> None:
        """Those of a job that are there now as it wanted them; what failed may be tried again in another way."""
        for item in items:
            entry = known.get(item.output)
            last = entry.last if entry else None
            made = last and last.event != "failed" and _asked(last.input, last.facts) == _asked_by(item)
            if made or item.verdict.fresh:
                self._owners.setdefault(_place(item), (place, _asked_by(item)))
