"""Lists of jobs as CSV: the first line names the columns, every other row is a job, an empty cell is not given.

Between the cells stands a comma, a semicolon or a tab: that with which the first line names most, or the one that a
line before it says, as spreadsheets write it ('sep=;'). Blanks behind it say
nothing, except within quotation marks. A cell in quotation marks may have lines; a row's number is that of its first.
"""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..errors import JobFileError, UsageError, shortened, shown
from .job_files import encoding_note, lines_of, read_list
from .rows import INPUT, MAX_ROWS, Row, Source, known_word, no_rows, row_of, too_many, word_of

_DELIMITERS = (",", ";", "\t")
_SAID = re.compile(r'"?sep=(.)"?\s*', re.I)


@dataclass(frozen=True, slots=True)
class _Record:
    """The cells of a row with the lines that it takes; `problem` where they cannot be told."""

    first: int
    last: int
    cells: list[str]
    problem: str = ""


def read_csv(path: str) -> Source:
    """The rows of a CSV file. Raises JobFileError for what is none as a whole, UsageError where it has no row.

    That is: an unreadable file, no header, a column that is unknown or there twice, or a quotation mark without its
    partner, which would swallow rows.
    """
    data = read_list(path)
    label, folder = shortened(path), os.path.dirname(path)
    records = _records(data, label)
    if _SAID.fullmatch(_first_line(data)):
        next(records)
    header = next(records, None)
    if header is None:
        raise JobFileError(f"{label}: is empty; expected a line that names the columns: {INPUT}, prompt, ...")
    columns = _columns(header, f"{label}, line {header.first}")
    rows: list[Row] = []
    for record in records:
        rows.append(_row(columns, record, f"{label}, line {record.first}", folder))
        if len(rows) > MAX_ROWS:
            raise too_many(path, MAX_ROWS, "split the list")
    if not rows:
        raise no_rows(path)
    return Source(rows, Path(folder), notes=encoding_note(data, path))


def _records(data: bytes, label: str) -> Iterator[_Record]:
    """Every row but blank ones."""
    reader = csv.reader(lines_of(data), delimiter=_delimiter(data), skipinitialspace=True, strict=True)
    while True:
        first = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            if reader.line_num > first:
                raise JobFileError(
                    f"{label}, line {first}: a quotation mark opens there and is not closed as CSV has it (line "
                    f"{reader.line_num}: {error}); close it, or write it twice where a text has one"
                ) from None
            yield _Record(first, first, [], f"is not CSV ({error})")
            continue
        if any(cell.strip() for cell in cells):
            yield _Record(first, reader.line_num, cells)


def _first_line(data: bytes) -> str:
    return next((line for line in lines_of(data) if line.strip()), "")


def _delimiter(data: bytes) -> str:
    first = _first_line(data)
    if said := _SAID.fullmatch(first):
        return said[1]

    def named(delimiter: str) -> tuple[int, int]:
        try:
            names = next(csv.reader([first], delimiter=delimiter, skipinitialspace=True))
        except csv.Error:
            return 0, 0
        return sum(bool(_known(name)) for name in names), len(names)

    return max(_DELIMITERS, key=named)


def _columns(header: _Record, place: str) -> list[str]:
    """What each column is, '' for one without a name, which stays empty."""
    if header.problem:
        raise JobFileError(f"{place}: {header.problem}; expected the names of columns: {INPUT}, prompt, ...")
    columns: list[str] = []
    for name in header.cells:
        word = _known(name)
        if name.strip() and not word:
            raise JobFileError(f"{place}: {_unknown(name)}{_data_hint(header.cells)}")
        if word and word in columns:
            raise JobFileError(f"{place}: has two columns for {word}; '{shown(name)}' is the second")
        columns.append(word)
    if INPUT not in columns:
        raise JobFileError(f"{place}: has no column '{INPUT}'; expected one that names the pictures")
    return columns


def _spelled(name: str) -> str:
    return name.strip().lower().replace(" ", "-")


def _known(name: str) -> str:
    return known_word(_spelled(name)) or ""


def _unknown(name: str) -> str:
    try:
        return word_of(_spelled(name))
    except UsageError as problem:
        return str(problem).replace("no option", "no column")


def _data_hint(names: Sequence[str]) -> str:
    return "" if any(map(_known, names)) else f"; the first line names the columns, such as {INPUT}, prompt, strength"


def _row(columns: Sequence[str], record: _Record, place: str, folder: str) -> Row:
    cells = record.cells
    given = {word: cell for word, cell in zip(columns, cells, strict=False) if word and cell.strip()}
    row = row_of(given, place, folder, text=True)
    problem = record.problem or _misfit(columns, record)
    return replace(row, problem=f"{place}: {problem}") if problem else row


def _misfit(columns: Sequence[str], record: _Record) -> str:
    cells = record.cells
    if len(cells) < len(columns) or any(cell.strip() for cell in cells[len(columns) :]):
        swallowed = f" over lines {record.first} to {record.last}; is a quotation mark open?"
        where = swallowed if record.last > record.first else ""
        return f"has {len(cells)} cells, and the first line names {len(columns)} columns{where}"
    stray = next((cell for cell, word in zip(cells, columns, strict=False) if not word and cell.strip()), "")
    return f"has '{shown(stray)}' in a column without a name" if stray else ""
