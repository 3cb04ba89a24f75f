"""From the rows of a source to jobs: each row with its own edit, prompt, seed, and place below the destination."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

from ..disk.checks import check_name
from ..errors import JobFileError, MaskError, PictureError, SdeditError, UsageError, shortened
from ..options.edit import seeds_from
from ..options.masks import ALPHA
from ..pictures.endings import FORMATS, READ_ENDINGS
from ..pictures.source import check_no_pipe
from .garbage import uncollected
from .journal import FOLDER
from .names import parted
from .patterns import is_pattern
from .rows import NOTHING, LostRow, Row, Source, Unseen
from .targets import STDIO, Job, Target, refuse_clashes
from .templates import check_placeholders, format_of, literal, names_of
from .wording import Ways, Wording


@dataclass(frozen=True, slots=True)
class Place:
    """Where outputs go: a folder, a template of names below it, and the format (None: by the ending)."""

    folder: Path
    template: str | None = None
    format: str | None = None

    @classmethod
    def of(cls, destination: str, format: str | None) -> Place:
        """The place that a DEST means: a folder, or a template whose folder is what stands before its first brace.

        Raises UsageError for what was meant for one picture.
        """
        if "{" not in destination:
            _check_folder(destination)
            return cls(Path(os.path.expanduser(destination)), None, format)
        check_placeholders(destination, "DEST")
        head, _, _ = destination.partition("{")
        folder, _ = os.path.split(os.path.expanduser(head))
        return cls(Path(folder or "."), destination[len(os.path.split(head)[0]) :].lstrip("/" + os.sep), format)

    def names(self, row: Row) -> str:
        """The template of a row's names below the folder."""
        if row.output is not None:
            return row.output
        ending = FORMATS[self.format] if self.format else ".png"
        variant = f"-{literal(row.variant)}" if row.variant else ""
        return self.template or f"{{parent}}/{{stem}}{variant}{ending}"


def _check_folder(destination: str) -> None:
    """Raises UsageError for stdout, for a file, and for the name of a picture, which nobody gives a folder."""
    path = os.path.expanduser(destination)
    if destination == STDIO:
        what = "is stdout"
    elif os.path.exists(path):
        what = "" if os.path.isdir(path) else "is a file"
    else:
        what = "is the name of one picture" if os.path.splitext(path)[1].lower() in READ_ENDINGS else ""
    if what:
        raise UsageError(
            f"DEST {shortened(destination)}: {what}, and a batch writes into a folder; give a folder (end it with '/') "
            "or a template such as 'out/{stem}.png', or make one picture with 'sdedit run -o'"
        )


@dataclass(frozen=True, slots=True)
class Plan:
    """All jobs of a batch in order, the rows that cannot be meant and the folders that cannot be read, and those that
    nobody looked into."""

    jobs: tuple[Job, ...]
    failures: tuple[LostRow, ...]
    unseen: Unseen = NOTHING


@uncollected()
def plan_batch(source: Source, place: Place, ways: Ways) -> Plan:
    """The jobs of a source. Raises UsageError when two of them would write to one name."""
    look_again(ways)
    wording = Wording(ways, source.defaults)
    jobs: list[Job] = []
    failures: list[LostRow] = []
    for index, row in enumerate(source.rows, 1):
        try:
            jobs.append(job_of(row, index, wording, place))
        except SdeditError as problem:
            failures.append(LostRow(index, row, problem))
    for index, row in enumerate(source.unseen.unread, len(source.rows) + 1):
        failures.append(LostRow(index, row, PictureError(row.problem)))
    _refuse_doubles(jobs)
    refuse_clashes(jobs, "DEST")
    return Plan(tuple(jobs), tuple(failures), source.unseen)


def look_again(ways: Ways) -> None:
    """Forgets what was seen of folders: masks and links may be others by now."""
    _link_between.cache_clear()
    if ways.masks:
        ways.masks.look_again()


def _refuse_doubles(jobs: Sequence[Job]) -> None:
    """Raises UsageError for one picture that two jobs bring to one output."""
    seen: dict[tuple[str, str], int] = {}
    for job in jobs:
        for path in {target.shown for target in job.targets}:
            first = seen.setdefault((job.source, path), job.index)
            if first != job.index:
                raise UsageError(
                    f"{job.source}: jobs {first} and {job.index} would both be written to {path}; give each an output "
                    "of its own, or a DEST such as 'out/{stem}-{index}.png'"
                )


def refuse_linked(jobs: Sequence[Job], chosen: Sequence[Job]) -> None:
    """Raises UsageError where a picture of the `chosen` jobs would get the file of another one by links, under a name
    that differs. Those that stay as they are may be links to one file."""
    made = {target.path for job in chosen for target in job.targets}
    owners: dict[str, Path] = {}
    seen = cache(_linked)
    for job in jobs:
        for target in job.targets:
            assert target.path is not None, "a batch writes files"
            folder, name = os.path.split(target.path)
            place, links = seen(folder)
            place = os.path.realpath(target.path) if name.casefold() in links else place + name
            first = owners.setdefault(place.casefold(), target.path)
            if first is not target.path and not made.isdisjoint((first, target.path)):
                raise UsageError(
                    f"{first} and {target.path} (of {job.shown}) are one file, as one of them is a link or lies "
                    "behind one; remove the link, or give each picture an output of its own"
                )


def _linked(folder: str) -> tuple[str, frozenset[str]]:
    """Where a folder really is, to be followed by a name, and the names in it that are links, in small letters: of many
    that a batch asks for most are not there yet."""
    try:
        with os.scandir(folder or ".") as entries:
            links = frozenset(entry.name.casefold() for entry in entries if entry.is_symlink())
    except OSError:
        links = frozenset[str]()
    return os.path.join(os.path.realpath(folder), ""), links


def job_of(row: Row, index: int, wording: Wording, place: Place) -> Job:
    """The job of a row. Raises what speaks against it, with the row's place or picture."""
    try:
        return _job_of(row, index, wording, place)
    except SdeditError as problem:
        text, where = str(problem), row.place or row.input
        if where in text or (row.input and row.input in text):
            raise
        raise problem.within(where) from None


def _check_single(row: Row) -> None:
    """Raises JobFileError where the input that a list names is a folder or a pattern, which would be many, PictureError
    where it is a pipe."""
    check_no_pipe(row.input, row.place)
    what = "a pattern" if is_pattern(row.input) else "a folder" if os.path.isdir(row.input) else ""
    if what:
        raise JobFileError(
            f"{row.place}: {shortened(row.input)} is {what}, and a job has one picture; give it as SOURCE, or among "
            "the inputs of a list in TOML"
        )


def _job_of(row: Row, index: int, wording: Wording, place: Place) -> Job:
    if row.place and not row.problem:
        _check_single(row)
    request = wording.request_of(row, index)
    if (mask := request.settings.mask) not in (None, ALPHA):
        check_no_pipe(mask, error=MaskError)
    seeds = seeds_from(request.words.get("seed", request.settings.seed), request.settings.count)
    names = place.names(row)
    label = "DEST" if row.output is None else f"{row.place}: output"
    check_placeholders(names, label)
    format = format_of(names, place.format, label, or_folder=row.output is None)
    named = names_of(names, parted(row.name), index, seeds, format, label)
    made = [Target(seed, _below(place.folder, name)) for seed, name in zip(seeds, named, strict=True)]
    return Job(request, row.input, index, tuple(made), format)


def _below(folder: Path, name: str) -> Path:
    """The path of an output below the folder."""
    inside = os.path.normpath(name)
    first = inside.split(os.sep, 1)[0]
    if os.path.isabs(inside) or first == os.pardir:
        raise UsageError(f"output {name} lies outside of {folder}; all outputs of a batch lie below DEST")
    if first == FOLDER:
        raise UsageError(f"output {name} lies in {FOLDER}, where the journal is; choose another")
    path = folder / inside
    link = _link_between(str(folder), os.path.dirname(inside))
    if link:
        raise UsageError(f"output {name} lies behind {link}, a link that leads out of {folder}; choose another")
    check_name(path)
    return path


@lru_cache(maxsize=1024)
def _link_between(folder: str, inside: str) -> str:
    """The linked folder by which what is `inside` of a folder lies outside of it; '' where it does not."""
    path = folder
    for part in inside.split(os.sep) if inside else ():
        path = os.path.join(path, part)
        if os.path.islink(path):
            root = os.path.join(os.path.realpath(folder), "")
            return "" if os.path.join(os.path.realpath(path), "").startswith(root) else path
    return ""
