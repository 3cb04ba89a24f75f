"""Lists of jobs as JSON: an object a line. A line that is none is one failed job, and never the end."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, NoReturn, cast

from ..errors import JobFileError, shortened, shown
from ..options import MAX_DOCUMENT
from .job_files import encoding_note, lines_of, read_list
from .rows import MAX_ROWS, Row, Source, no_rows, row_of, too_many

# More than any number has that a job could mean, and fewer than Python takes time for.
_MOST_DIGITS = 400


def read_json_lines(path: str) -> Source:
    """The rows of a file of JSON lines; blank ones are passed over.

    Raises JobFileError for what is none as a whole, UsageError where it has no row.
    """
    data = read_list(path)
    label, folder = shortened(path), os.path.dirname(path)
    if data.lstrip()[:1] == b"[":
        raise JobFileError(f"{label}: is one JSON list; expected an object a line (jq -c '.[]' makes that of it)")
    rows: list[Row] = []
    for number, line in enumerate(lines_of(data), 1):
        if line.strip():
            rows.append(row_of_json(line, f"{label}, line {number}", folder))
        if len(rows) > MAX_ROWS:
            raise too_many(path, MAX_ROWS, "split the list")
    if not rows:
        raise no_rows(path)
    return Source(rows, Path(folder), notes=encoding_note(data, path))


def row_of_json(line: str, place: str, folder: str = "") -> Row:
    """The row of one JSON object; whatever else the line is becomes the row's problem."""
    if len(line) > MAX_DOCUMENT:
        return _failed(place, f"has {len(line):,} characters; expected at most {MAX_DOCUMENT:,}")
    try:
        record: object = json.loads(
            line, object_pairs_hook=_without_doubles, parse_constant=_no_number, parse_int=_whole
        )
    except json.JSONDecodeError as problem:
        return _failed(place, f"is not JSON ({problem.msg}, at character {problem.pos + 1})")
    except RecursionError:
        return _failed(place, "is JSON too deep to be a job")
    except ValueError as problem:
        return _failed(place, f"is not JSON that is meant: {problem}")
    if not isinstance(record, dict):
        return _failed(place, f'is {shown(record)}; expected an object such as {{"input": "a.png"}}')
    return row_of(cast("dict[str, object]", record), place, folder)


def _failed(place: str, why: str) -> Row:
    return Row("", "", place=place, problem=f"{place}: {why}")


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        seen: set[str] = set()
        double = next(key for key, _ in pairs if key in seen or seen.add(key))
        raise ValueError(f"'{shown(double)}' is there twice")
    return table


def _whole(digits: str) -> int:
    if len(digits) > _MOST_DIGITS:
        raise ValueError(f"a number of {len(digits)} digits is none that an option takes")
    return int(digits)


def _no_number(word: str) -> NoReturn:
    raise ValueError(f"{word} is no number that an option takes")
