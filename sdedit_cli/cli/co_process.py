"""`sdedit batch -`: jobs come in on stdin, a line of JSON each, and are answered by events; the model stays warm."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from contextlib import closing
from typing import Any

from ..batch.books import Books
from ..batch.events import Events
from ..batch.journal import FOLDER, JournalLost, journal_of, read_all
from ..batch.lock import locked_folder
from ..batch.plan import Place, job_of, look_again, refuse_linked
from ..batch.request import RunOptions
from ..batch.run import Run
from ..batch.stream import Claims, rows_from
from ..batch.survey import Item, choose, survey
from ..batch.targets import Job, refuse_clashes
from ..batch.versions import torch_version
from ..batch.wording import Wording
from ..batch.worker import Reporter
from ..errors import AllFailed, SdeditError, SomeFailed, UsageError
from ..options import Layer, fields
from ..pictures.codec import pixel_limit
from .assignment import path_of, tell_fresh, ways_of
from .host import ADAPTERS, Models
from .layering import layering

# What needs to know all jobs before the first is done.
_OF_LISTS = (
    *("recursive", "include", "exclude", "check", "retry_failed", "limit", "shard", "prune", "dry_run", "report"),
    *("strict_env", "batch_size", "address", "workers"),
)


def serve(dest: str | None, given: Mapping[str, Any], to: Reporter, events: Events) -> None:
    """Carries out one job after the other until stdin ends. Raises SomeFailed or AllFailed then."""
    _check_together(given)
    place = Place.of(dest or ".", given["format"])
    with locked_folder(place.folder / FOLDER, None, to.note if given["wait"] else None):
        known = read_all(place.folder)
        with closing(journal_of(place.folder, None, known)) as journal:
            errors = _Server(place, given, to, events, Books(journal, place.folder, known, torch_version())).run()
    done = events.counts["saved"] + events.counts["skipped"]
    if errors and not done:
        raise AllFailed(f"all {errors} jobs failed")
    if errors:
        raise SomeFailed(f"{errors} of {errors + done} jobs failed; the others are done")


class _Server:
    def __init__(self, place: Place, given: Mapping[str, Any], to: Reporter, events: Events, books: Books) -> None:
        layers = layering(given, given["presets"], given["like"])
        self._ways = ways_of(layers, given)
        self._request = layers.plain()
        self._place = place
        self._given = given
        self._to = to
        self._events = events
        self._books = books
        self._claims = Claims()
        self._models = Models(to.note)
        self._held: tuple[tuple[object, ...], dict[str, str]] = ((), {})
        limit = pixel_limit(os.environ)
        self._options = RunOptions(
            "overwrite", max_megapixels=limit, keep_going=True, fail_fast=given["fail_fast"], goes_on=True
        )

    def run(self) -> int:
        """How many jobs failed."""
        self._events.emit("start", inputs=None, model=self._request.model.name, dry_run=False)
        errors = 0
        for number, row in enumerate(rows_from(sys.stdin.buffer), 1):
            output = ""
            try:
                look_again(self._ways)
                job = job_of(row, number, Wording(self._ways, Layer("", {})), self._place)
                output = job.output
                errors += self._carry_out(job, row.place)
            except (SomeFailed, JournalLost):  # the end: by --fail-fast, which told what failed, or for want of a place
                raise
            except SdeditError as problem:
                self._tell(row.input, problem, output)
                errors += 1
        return errors

    def _carry_out(self, job: Job, place: str) -> int:
        given, books = self._given, self._books
        refuse_clashes([job], "DEST")
        items = survey([job], self._place.folder, books.known, path_of)
        self._claims.check(items, place)
        choice = choose(items, force=given["force"], overwrite=given["on_exists"] == "overwrite", limit=None)
        refuse_linked([job], choice.jobs)
        for item, problem in choice.kept:
            self._tell(job.source, problem, str(item.target.path))
        tell_fresh(choice, self._events)
        books.accounts = {item.output: item.account for item in items}
        if choice.jobs:
            self._let_go_of_changed(items[0])
        run = Run(job.request, choice.jobs, self._options, self._models, self._to, self._events, None, books)
        run.work()
        self._claims.add(items, place, books.known)
        return len(run.errors) + len(choice.kept)

    def _let_go_of_changed(self, item: Item) -> None:
        """Lets go of the model when files that it was loaded from, or has at work, are others than they were then.

        Adapters are read again wherever they are exchanged.
        """
        group, facts = self._models.group(item.job.request), item.account.facts
        named = (field.name for field in fields() if field.option.path and field.name != "mask")
        files = {name: facts[name] for name in named if name in facts}
        held, before = self._held
        stay = held[:1] == group[:1]
        names = {name for name in {**files, **before} if held == group or name not in ADAPTERS}
        if stay and any(files.get(name) != before.get(name) for name in names):
            self._models = Models(self._to.note)
        self._held = (group, files)

    def _tell(self, source: str, problem: SdeditError, output: str) -> None:
        self._events.failed(source, problem, output)
        self._to.error(str(problem))
        if self._given["fail_fast"]:
            raise SomeFailed("one job failed, and --fail-fast ends the run")


def _check_together(given: Mapping[str, Any]) -> None:
    for name in _OF_LISTS:
        if given[name]:
            raise UsageError(f"--{name.replace('_', '-')} has no meaning for jobs on stdin, which come one by one")
    if given["engine"] != "local":
        raise UsageError(f"--engine {given['engine']} has no meaning for jobs on stdin, which come one by one")
    if sys.stdin is None or sys.stdin.isatty():  # pyright: ignore[reportUnnecessaryComparison]  (started with it closed)
        raise UsageError("SOURCE - reads jobs from stdin, and nothing is piped in")
