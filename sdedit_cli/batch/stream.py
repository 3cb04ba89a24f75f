"""Jobs from a stream, a line of JSON each: read when the one before is done, so that a writer who is faster waits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from .json_lines import row_of_json
from .rows import Row

MAX_LINE = 1_000_000


def rows_from(stream: BinaryIO) -> Iterator[Row]:
    """A row for each line that is not blank, until the stream ends. A line that is none is a row with a problem."""
    number = 0
    while line := stream.readline(MAX_LINE + 1):
        number += 1
        place = f"stdin, line {number}"
        if len(line) > MAX_LINE:
            while line and not line.endswith(b"\n"):
                line = stream.readline(MAX_LINE)
            yield Row("", "", place=place, problem=f"{place}: has more than {MAX_LINE:,} bytes")
        elif line.strip():
            # As in a list: bytes that are no UTF-8 stay as they are in the names of files, and options refuse them.
            yield row_of_json(line.decode("utf-8-sig" if number == 1 else "utf-8", "surrogateescape"), place, "")
