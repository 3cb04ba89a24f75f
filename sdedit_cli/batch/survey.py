"""What a batch would have to do: every output with its key and the verdict on it; no model, nothing written."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Any

from ..disk.hashes import file_hash
from ..disk.stamps import NOWHERE, Stamp, stamp_of
from ..errors import OutputError
from ..pictures.source import byte_limit
from .books import Account, name_of
from .freshness import Verdict, judge
from .garbage import uncollected
from .journal import Known
from .keys import Contents, Facts
from .lost_rows import was_lost
from .request import Model
from .targets import Job, Target, is_input_of_another


@dataclass(frozen=True, slots=True)
class Item:
    """One output: the job and target that make it, what the journal calls it and will say of it, and the verdict."""

    job: Job
    target: Target
    output: str
    account: Account
    verdict: Verdict


@uncollected()
def survey(
    jobs: Sequence[Job],
    folder: Path,
    known: Mapping[str, Known],
    path_of: Callable[[Model], Path],
    environment: Callable[[Job], Mapping[str, Any]] | None = None,
) -> list[Item]:
    """Every output of the jobs. `path_of` says where the files of a model are, `environment` in which circumstances a
    job would be carried out now, where they count. Raises ModelError, OutputError."""
    all_facts = Facts()
    root = os.path.join(folder, "")
    items: list[Item] = []
    for job in jobs:
        model = path_of(job.request.model)
        seen, stamp = "", stamp_of(job.source)
        now = environment(job) if environment else None
        blocks = job.request.settings.safety == "block" and _has_checker(model, all_facts.contents)
        for target in job.targets:
            assert target.path is not None, "a batch writes files"
            output = name_of(root, target.path)
            entry = known.get(output)
            seen = seen or _before(_input_hash(job.source, stamp, entry), job.source, target, entry)
            facts, key = all_facts.of(job.request, target.seed, model=model, input_sha256=seen, format=job.format)
            account = Account(key, facts, job.source, stamp)
            verdict = judge(target.path, key, facts, entry, now, blocks=blocks)
            if not verdict.fresh and was_lost(job, entry, known):
                verdict = replace(verdict, failed=True)
            items.append(Item(job, target, output, account, verdict))
    return items


def _has_checker(model: Path, contents: Contents) -> bool:
    return all(contents.has_part(model, part) for part in ("safety_checker", "feature_extractor"))


def _input_hash(source: str, stamp: Stamp, entry: Known | None) -> str:
    """The hash of an input: as it was, where its size and time are those of then; 'missing' where it cannot be read."""
    last = entry.placed if entry else None
    if last and last.input == source and last.input_sha256 and last.input_stamp == stamp != NOWHERE:
        return last.input_sha256
    if stamp[0] > byte_limit(os.environ):
        return "missing"  # it will not be read
    try:
        return file_hash(source)
    except OSError:
        return "missing"


def _before(seen: str, source: str, target: Target, entry: Known | None) -> str:
    """The hash of an input; of one that was edited in its place, and is our result by now, that of what was first."""
    made = entry.placed if entry else None
    if entry is None or made is None or seen not in entry.written or target.path is None:
        return seen
    is_in_place = os.path.realpath(source) == os.path.realpath(target.path)
    return (is_in_place and made.facts.get("input")) or seen


@dataclass(frozen=True, slots=True)
class Choice:
    """What a batch takes on: jobs with the pictures to make, outputs that are fresh, and those it may not replace."""

    jobs: tuple[Job, ...]
    fresh: tuple[Item, ...]
    kept: tuple[tuple[Item, OutputError], ...]
    left: int = 0
    """How many outputs are stale and not taken on, by --limit or --retry-failed."""


def choose(
    items: Sequence[Item],
    *,
    force: bool = False,
    overwrite: bool = False,
    failed_alone: bool = False,
    limit: int | None,
    inputs: Collection[str] = (),
) -> Choice:
    """The jobs to carry out. What is not ours is not replaced, unless `overwrite` or `force` says so, and then none of
    the `inputs` (`inputs_of`) that is another job's."""
    fresh: list[Item] = []
    kept: list[tuple[Item, OutputError]] = []
    wanted: dict[int, list[Item]] = {}
    left = taken = 0
    # What fails again and again must not use up a limit for ever.
    for item in items if limit is None else sorted(items, key=lambda item: item.verdict.failed):
        verdict = item.verdict
        if verdict.fresh and not force:
            fresh.append(item)
        elif (failed_alone and not verdict.failed) or taken == limit:
            left += 1
        elif verdict.ours or ((overwrite or force) and not is_input_of_another(item.job, item.target.path, inputs)):
            taken += 1
            wanted.setdefault(id(item.job), []).append(item)
        else:
            kept.append((item, _not_ours(item, asked=overwrite or force)))
    jobs = [_with(items, anything=overwrite or force) for items in wanted.values()]
    return Choice(tuple(jobs), tuple(fresh), tuple(kept), left)


def _with(items: Sequence[Item], *, anything: bool) -> Job:
    """A job with the pictures of these items; what is there of them is ours to replace, and `anything` by then."""
    targets = [
        replace(item.target, wanted=item.target.path, replaces=True, stood=None if anything else item.verdict.stood)
        for item in items
    ]
    return replace(items[0].job, targets=tuple(targets))


def _not_ours(item: Item, *, asked: bool) -> OutputError:
    """The error of what is not replaced, though it was `asked` for or not."""
    reason, way = (
        ("it is the input of another job", "choose another output")
        if asked
        else (item.verdict.reason, "move it away, or replace it with --on-exists overwrite")
    )
    return OutputError(f"{item.target.path}: {reason}, so it is left as it is; {way}")


def strays(known: Mapping[str, Known], made: Collection[str], unseen: Collection[str] = ()) -> list[str]:
    """The outputs that the journals know and no job makes any more; not those of what lies in folders `unseen`.

    These are told by their names: a path in a journal counts from where its command was given.
    """
    there = {output: placed.input for output, entry in known.items() if (placed := entry.placed)}
    names = {os.path.basename(folder) for folder in unseen}
    return sorted(
        output
        for output, source in there.items()
        if output not in made and names.isdisjoint(PurePath(source).parts[:-1])
    )


def prunable(
    folder: Path, outputs: Iterable[str], known: Mapping[str, Known], read: Collection[str] = ()
) -> list[Path]:
    """Those of the outputs that are there as the journals say that they were written, are not `read` (`read_by`), and
    were not edited in their place: there is no other copy of these."""
    return [folder / output for output in outputs if _is_ours(folder, output, known[output], read)]


def _is_ours(folder: Path, output: str, known: Known, read: Collection[str]) -> bool:
    """Whether an output that a journal names lies below the folder, not behind a link, as it was written, and is
    nothing but an output."""
    path = folder / output
    if os.path.isabs(output) or os.pardir in PurePath(output).parts:
        return False  # no journal of ours says so
    try:
        real, made = os.path.realpath(path), known.placed or known.last
        within = path.is_file() and Path(real) == Path(os.path.realpath(folder)) / output
        is_input = made.in_place or real in read or real == os.path.realpath(made.input)
        return within and not is_input and file_hash(path) in known.written
    except (OSError, ValueError):  # a name that no file can have, or one that cannot be read
        return False
