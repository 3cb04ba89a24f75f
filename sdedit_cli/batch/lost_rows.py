"""Rows that cannot be meant, in the journal: when one is mended, a later run knows that its job is one that failed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePath

from .journal import FOLDER, Entry, Journal, Known, text_of
from .rows import LostRow
from .targets import Job


def note_lost(rows: Sequence[LostRow], known: Mapping[str, Known], journal: Journal) -> dict[str, Known]:
    """Has the journal say of these rows that they failed; what it knows then of them that it did not know before.

    Raises OutputError.
    """
    entries: list[Entry] = []
    for number, row, problem in rows:
        name, text = _name(row.input, number), text_of(problem)
        before = known.get(name)
        if before is None or (before.last.error, before.last.word) != (text, problem.word):
            entries.append(Entry("failed", name, input=row.input, error=text, word=problem.word))
    added = journal.add_all(entries) if entries else []
    return {entry.output: Known(entry, frozenset()) for entry in added}


def was_lost(job: Job, of_output: Known | None, known: Mapping[str, Known]) -> bool:
    """Whether the row of a job could not be meant when it was last tried, or a folder of its input not be read: nothing
    came of its output since then."""
    folders = (_name(str(folder), 0) for folder in PurePath(job.source).parents)
    names = (_name(job.source, job.index), _name("", job.index), *folders)
    last = max((known[name].last.n for name in names if name in known), default=0)
    return last > (of_output.last.n if of_output else 0)


def _name(source: str, number: int) -> str:
    """What the journal calls a row: what no output can be called. Where it names no picture, it goes by its number."""
    return f"{FOLDER}/{source or f'row {number}'}"
