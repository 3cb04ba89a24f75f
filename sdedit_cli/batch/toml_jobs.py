"""Lists of jobs as TOML: jobs with what they have in common, and what varies over all of them.

    inputs = ["art/*.png", "b.png"]     # pictures, glob patterns and folders, from this file's folder
    [defaults]                          # any options, and `output`: below what a job says
    steps = 30
    [matrix]                            # options that vary: every job is done for every combination
    strength = [0.4, 0.8]
    [[job]]                             # any options, `output`, and `input` (as one of `inputs`)
    prompt = "in winter"
    [[job]]
    input = "portraits/*.png"
    prompt = "an oil painting"

A job with an `input` is of that alone; one without is of all `inputs`, and without any `[[job]]` each of the inputs is
one job. The rows come in the order of the jobs, of the pictures within a job, and of the combinations for a picture.
What is in `[matrix]` must not be in a `[[job]]`, and wins over `[defaults]`. A key that is wrong is so for the whole
file; a job whose own values are, fails alone.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from ..errors import JobFileError, UsageError, did_you_mean, quoted, shortened, shown
from ..options import Layer, layer_of, toml_table
from .folders import Pictures, Search, pictures_of
from .job_files import read_list
from .matrix import MAX_VARIANTS, Matrix, read_matrix
from .rows import INPUT, OUTPUT, Row, Source, Unseen, beside, no_rows, output_of, row_of, too_many, word_of

MAX_TOML_BYTES = 16_000_000
_KEYS = ("inputs", "defaults", "matrix", "job")


@dataclass(frozen=True, slots=True)
class _File:
    """A job file as a table, with its name for people, its folder, and how patterns in it are looked up."""

    table: dict[str, object]
    label: str
    folder: str
    search: Search


def read_toml_jobs(path: str, leave_out: Path | None = None) -> Source:
    """The rows of a TOML file. Raises JobFileError for what cannot be meant as a whole, UsageError without a row.

    `leave_out` is a folder of results, whose pictures no pattern finds.
    """
    label = shortened(path)
    try:
        text = read_list(path, MAX_TOML_BYTES).decode()
    except UnicodeDecodeError:
        raise JobFileError(f"{label}: is not a text file in UTF-8; expected TOML") from None
    table = toml_table(text, label, JobFileError)
    stray = next((key for key in table if key not in _KEYS), None)
    if stray is not None:
        raise JobFileError(f"{label}: has '{shown(stray)}' on top{_where(stray)}; expected {', '.join(_KEYS)}")
    return _source(_File(table, label, os.path.dirname(path), Search(leave_out=leave_out)))


def _where(key: str) -> str:
    try:
        known = word_of(key)
    except UsageError:
        return did_you_mean(key, _KEYS)
    return "; did you mean 'inputs'?" if known == INPUT else ", which belongs into [defaults] or a [[job]]"


def _source(file: _File) -> Source:
    matrix = read_matrix(file.table.get("matrix", {}), f"{file.label}, [matrix]")
    defaults, output = _defaults(file)
    looked: list[Pictures] = []
    members = list(_members(file, matrix, looked))
    unseen = Unseen.of_all([found.unseen for found in looked])
    if not members and not unseen.unread:
        raise no_rows(file.label)
    if len(members) * matrix.size > MAX_VARIANTS:
        hint = f"{len(members):,} pictures in {matrix.size:,} combinations are too many for one file"
        raise too_many(file.label, MAX_VARIANTS, hint)
    rows = [
        replace(
            row,
            values={**row.values, **values},
            variant=variant,
            place=f"{row.place} ({variant})" if variant else row.place,
            output=row.output or output,
        )
        for row in members
        for values, variant in ([({}, "")] if row.problem else matrix.members())
    ]
    notes = dict.fromkeys(note for found in looked for note in found.notes)
    return Source(rows, Path(file.folder), defaults, tuple(notes), unseen)


def _defaults(file: _File) -> tuple[Layer, str | None]:
    label = f"{file.label}, [defaults]"
    table = file.table.get("defaults", {})
    if not isinstance(table, dict):
        raise JobFileError(f"{label}: is no table; expected options, one a line")
    values = dict(cast("dict[str, object]", table))
    output = output_of(values.pop(OUTPUT, None), label)
    if INPUT in values:
        raise JobFileError(f"{label}: has '{INPUT}'; name the pictures of all jobs by inputs = [...] on top")
    return beside(layer_of(values, label, JobFileError), file.folder), output


def _members(file: _File, matrix: Matrix, looked: list[Pictures]) -> Iterator[Row]:
    """A row for every picture of every job, before they are multiplied."""
    inputs = _inputs(file)
    alone: list[object] = [{}] if inputs else []
    jobs = file.table.get("job", alone)
    if not isinstance(jobs, list) or not all(isinstance(job, dict) for job in cast("list[object]", jobs)):
        raise JobFileError(f"{file.label}: 'job' is no list of tables; begin each job with a line [[job]]")
    shared: list[object] | None = None
    for number, job in enumerate(cast("list[dict[str, object]]", jobs), 1):
        place = f"{file.label}, job {number}" if "job" in file.table else file.label
        words = _words(job, place)
        varied = next((word for word in words if word in matrix.values), None)
        if varied:
            raise JobFileError(f"{place}: sets {varied}, which [matrix] varies; leave it to one of them")
        named = next((key for key, word in zip(job, words, strict=True) if word == INPUT), None)
        if named is None and shared is None:
            shared = list(_found(inputs, f"{file.label}: inputs", file, looked))
        pictures = (shared or []) if named is None else _found([job[named]], f"{place}: {named}", file, looked)
        rest = {key: value for key, value in job.items() if key != named}
        if named is None and not inputs:
            yield row_of(rest, place, file.folder)
        yield from (row_of({INPUT: picture, **rest}, place, file.folder) for picture in pictures)


def _words(job: dict[str, object], place: str) -> list[str]:
    try:
        return [word_of(key) for key in job]
    except UsageError as problem:
        raise JobFileError(f"{place}: {problem}") from None


def _inputs(file: _File) -> list[object]:
    given = file.table.get("inputs", [])
    listed = cast("list[object]", given) if isinstance(given, list) else [given]
    stray = next((item for item in listed if not isinstance(item, str)), None)
    if stray is not None:
        raise JobFileError(f"{file.label}: inputs has {quoted(stray)}; expected a list of paths and patterns")
    return listed


def _found(inputs: Sequence[object], place: str, file: _File, looked: list[Pictures]) -> Iterator[object]:
    """The pictures that paths, patterns and folders name, as paths from the file's folder."""
    for source in inputs:
        if not isinstance(source, str) or not source:
            yield source
            continue
        try:
            found = pictures_of(source, file.search, file.folder)
        except UsageError as problem:
            raise JobFileError(f"{place}: {problem}") from None
        looked.append(found)
        yield from found.paths()
