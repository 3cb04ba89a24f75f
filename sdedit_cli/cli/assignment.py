"""One `sdedit batch`: what it is to make, what of that is stale, and carrying it out."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..batch.books import Books, name_of
from ..batch.events import Events
from ..batch.journal import FOLDER, Entry, Journal, Known, journal_of, read_all
from ..batch.lock import locked_folder
from ..batch.lost_rows import note_lost
from ..batch.masks import MaskFolder
from ..batch.plan import Place, Plan, plan_batch, refuse_linked
from ..batch.prompts import PromptSource
from ..batch.report import Report, of_check, of_run
from ..batch.report_files import check_reports
from ..batch.request import Model, Request, RunOptions
from ..batch.rows import LostRow
from ..batch.run import Run
from ..batch.shapes import company_of, gathered
from ..batch.sources import rows_of
from ..batch.survey import Choice, Item, choose, prunable, strays, survey
from ..batch.targets import Job, inputs_of, read_by
from ..batch.telling import Errors, warn
from ..batch.versions import torch_version
from ..batch.wording import Ways
from ..disk.checks import check_folder
from ..errors import AllFailed, ModelError, OutputError, SdeditError, SomeFailed, UsageError, first_line, listed
from ..options.masks import check_masked
from ..pictures.codec import pixel_limit
from .engines import check_engine, hosted
from .given_files import check_there
from .layering import Layering, layering
from .render import Count, Reporter
from .reports import report_paths, reported

_MOST_SHOWN = 20


@dataclass(eq=False)
class Assignment:
    """The jobs of a source, with all that was said about how to carry them out. `given` are the command's options."""

    place: Place
    plan: Plan
    layers: Layering
    given: Mapping[str, Any]
    to: Reporter
    events: Events

    @classmethod
    def of(cls, source: str, dest: str | None, given: Mapping[str, Any], to: Reporter, events: Events) -> Assignment:
        """Reads the source and plans its jobs. Raises what speaks against the whole of it."""
        _check_together(given)
        check_engine(given)
        check_reports(report_paths(given), overwrite=given["on_exists"] == "overwrite")
        layers = layering(given, given["presets"], given["like"])
        place = Place.of(dest or default_destination(source), given["format"])
        found = rows_of(
            source,
            recursive=given["recursive"],
            include=given["include"],
            exclude=given["exclude"],
            leave_out=place.folder,
        )
        for note in found.notes:
            to.note(note)
        ways = ways_of(layers, given)
        if ways.masks:
            found = replace(found, rows=ways.masks.without(found.rows, found.root))
        check_there(layers.above)
        plan = plan_batch(found, place, ways)
        if not plan.jobs:
            layers.plain()  # what speaks against the command is said once, and not of each row
        else:
            check_masked(given, any(job.request.settings.mask is not None for job in plan.jobs))
        return cls(place, plan, layers, given, to, events)

    @property
    def total(self) -> int:
        """How many outputs there are to be, those of rows that cannot be meant included."""
        return sum(len(job.targets) for job in self.jobs) + len(self.failures)

    @property
    def pictures(self) -> int:
        """How many pictures the whole batch has: how many are edited at a time follows from that."""
        return sum(len(job.targets) for job in self.plan.jobs)

    @property
    def jobs(self) -> Sequence[Job]:
        """The jobs of this shard."""
        part, parts = self.given["shard"] or (1, 1)
        return [job for job in self.plan.jobs if (job.index - 1) % parts == part - 1]

    @property
    def failures(self) -> Sequence[LostRow]:
        """The rows that cannot be meant: they count for the first shard."""
        part, _ = self.given["shard"] or (1, 1)
        return self.plan.failures if part == 1 else ()

    def stale(self) -> int:
        """Tells which outputs are stale, and why; how many there are."""
        items = self._survey(read_all(self.place.folder))
        with self._reported(lambda: of_check(self.place.folder, items, self.failures)):
            return self._tell_stale(items)

    def _tell_stale(self, items: Sequence[Item]) -> int:
        for lost in self.failures:
            self.events.emit("stale", input=lost.row.input, output=None, reason=str(lost.problem))
            self.to.warn(str(lost.problem))
        for item in items:
            if not item.verdict.fresh:
                self.events.emit(
                    "stale", input=item.job.source, output=str(item.target.path), reason=item.verdict.reason
                )
                self.to.note(f"{item.target.path}: {item.verdict.reason}")
        return sum(not item.verdict.fresh for item in items) + len(self.failures)

    def carry_out(self) -> None:
        """Makes what is missing, changed or failed. Raises SomeFailed or AllFailed, OutputError for the whole place."""
        if self.given["dry_run"]:
            check_folder(self.place.folder / FOLDER, "DEST")
            self._carry_out(read_all(self.place.folder), None)
            return
        folder, shard = self.place.folder, self.given["shard"]
        with locked_folder(folder / FOLDER, shard, self.to.note if self.given["wait"] else None):
            known = read_all(folder)
            with closing(journal_of(folder, shard, known)) as journal:
                self._carry_out(known, journal)

    def _survey(self, known: Mapping[str, Known]) -> list[Item]:
        environment = self._environment if self.given["strict_env"] else None
        return survey(self.jobs, self.place.folder, known, path_of, environment)

    def _environment(self, job: Job) -> dict[str, Any]:
        """In which circumstances a job would be carried out now, as far as that is known without torch."""
        together = company_of(job, self.pictures, self.given["batch_size"], pixel_limit(os.environ))
        return {"torch": torch_version(), "backend": job.request.edit.backend, "together": together}

    def _reported(self, tell: Callable[[], Report]) -> AbstractContextManager[None]:
        return reported(self.given, self.to, tell, quietly=self.events.stream is not None)

    def _carry_out(self, known: dict[str, Known], journal: Journal | None) -> None:
        given, before = self.given, dict(known)
        items = self._survey(known)
        choice = choose(
            items,
            force=given["force"],
            overwrite=given["on_exists"] == "overwrite",
            failed_alone=given["retry_failed"],
            limit=given["limit"],
            inputs=inputs_of(self.plan.jobs) if given["force"] or given["on_exists"] == "overwrite" else (),
        )
        refuse_linked(self.plan.jobs, choice.jobs)
        with self._reported(lambda: of_run(self.place.folder, items, self.failures, choice, before, known)):
            self._work_on(items, choice, known, journal)

    def _work_on(self, items: Sequence[Item], choice: Choice, known: dict[str, Known], journal: Journal | None) -> None:
        given = self.given
        if journal is not None:
            known |= note_lost(self.failures, known, journal)
        limit = pixel_limit(os.environ)
        options = RunOptions(
            "overwrite",
            dry_run=given["dry_run"],
            max_megapixels=limit,
            keep_going=True,
            fail_fast=given["fail_fast"],
        )
        books = None if journal is None else Books(journal, self.place.folder, known, torch_version())
        if books:
            books.accounts |= {item.output: item.account for item in items}
        with hosted(given, self.to) as host:
            jobs = gathered(choice.jobs, lambda job: host.group(job.request), self.pictures, given["batch_size"], limit)
            run = Run(self._in_common(), jobs, options, host, self.to, self.events, None, books)
            run.start()
            failed = self._tell_failures(choice)
            run.work()
        if given["dry_run"]:
            self._tell_reasons(items, choice)
        tell_fresh(choice, self.events)
        unpruned = self._prune(known, journal) if given["prune"] else []
        self._judge(choice, [*failed, *run.errors, *unpruned])

    def _in_common(self) -> Request:
        """What the command asks for; where that is something only together with a row, what the first job does."""
        try:
            return self.layers.plain()
        except SdeditError:
            if not self.plan.jobs:
                raise
            return self.plan.jobs[0].request

    def _tell_reasons(self, items: Sequence[Item], choice: Choice) -> None:
        """Says why outputs would be made that are there, and are not as they should be."""
        chosen = {(job.index, target.path) for job in choice.jobs for target in job.targets}
        for item in items:
            verdict, path = item.verdict, item.target.path
            if (item.job.index, path) in chosen and not verdict.fresh and path is not None and path.exists():
                self.to.note(f"{path}: {verdict.reason}")

    def _tell_failures(self, choice: Choice) -> list[SdeditError]:
        """The errors of what is not even tried."""
        told = [(lost.row.input, "", lost.place, lost.problem) for lost in self.failures]
        for item, problem in choice.kept:
            output = str(item.target.path)
            told.append((item.job.source, output, output, problem))
        errors = Errors(self.to)
        for source, output, place, problem in told:
            self.events.failed(source, problem, output)
            errors.tell(problem, place, str(problem).removeprefix(f"{place}: "))
        errors.close()
        if told and self.given["fail_fast"]:
            raise SomeFailed("one input failed, and --fail-fast ends the run; nothing was made")
        return [problem for *_, problem in told]

    def _prune(self, known: Mapping[str, Known], journal: Journal | None) -> list[SdeditError]:
        """Removes what no job makes or reads, where the journal knows it and nobody touched it; what cannot be."""
        folder, linked = self.place.folder, self.plan.unseen.linked
        if self.plan.failures:
            text = "--prune: nothing is removed while some jobs or folders cannot be read: their outputs are not known"
            warn(text, self.to, self.events)
            return []
        problems: list[SdeditError] = []
        made = {name_of(folder, target.path) for job in self.plan.jobs for target in job.targets if target.path}
        read = read_by(self.plan.jobs) | {os.path.realpath(path) for path in [self.given["like"]] if path}
        for path in prunable(folder, strays(known, made, linked), known, read):
            if journal is None:
                self.events.emit("pruned", output=str(path), dry_run=True)
                self.to.note(f"would remove {path}: no job makes it any more")
                continue
            try:
                path.unlink(missing_ok=True)
            except OSError as problem:
                problems.append(OutputError(f"{path}: cannot be removed ({problem.strerror})"))
                self.events.failed("", problems[-1], str(path))
                self.to.error(str(problems[-1]))
                continue
            journal.add(Entry("pruned", name_of(folder, path)))
            self.events.emit("pruned", output=str(path))
            self.to.note(f"removed {path}: no job makes it any more")
        return problems

    def _judge(self, choice: Choice, errors: Sequence[SdeditError]) -> None:
        made, fresh = self.events.counts["saved"] + self.events.planned, len(choice.fresh)
        rows = [Count("made", made), Count("unchanged", fresh), Count("failed", len(errors)), *_reasons(errors)]
        rows += [Count("left for another time", choice.left)] if choice.left else []
        if not self.given["dry_run"]:
            self.to.summary(rows)
        if not errors:
            return
        if made + fresh == 0:
            raise AllFailed(f"all {len(errors)} failed: {_summary(errors)}")
        raise SomeFailed(f"{len(errors)} of {len(errors) + made + fresh} failed: {_summary(errors)}")


def ways_of(layers: Layering, given: Mapping[str, Any]) -> Ways:
    """How the options of the command have each row get its edit."""
    around = (given["prompt_from"], given["prompt_prefix"], given["prompt_suffix"])
    masks = MaskFolder(Path(given["mask_dir"])) if given["mask_dir"] else None
    if masks and given["mask"]:
        raise UsageError("--mask and --mask-dir exclude each other; give one of them")
    said = {name for layer in layers.above for name in layer.values}
    prompts = PromptSource(*around, layers.gives("prompt"))
    return Ways(layers.plain, layers.worded, said, prompts, given["seed_mode"], masks)


def tell_fresh(choice: Choice, events: Events) -> None:
    """Tells programs of the outputs that are as they should be."""
    for item in choice.fresh:
        events.emit("skipped", input=item.job.source, output=str(item.target.path), seed=item.target.seed)


def default_destination(source: str) -> str:
    """Where outputs go when nobody says: beside the source."""
    if any(mark in source for mark in "*?["):
        return "edited"
    path = Path(source)
    if not path.name or path.name == "..":  # such as '.', which has a name where it lies
        path = Path(os.path.abspath(source))
    if not path.name:
        raise UsageError(f"{source}: nothing can lie beside it; say where the pictures go: sdedit batch {source} DEST")
    return str(path.with_name(f"{path.name if path.is_dir() else path.stem}.edited"))


def _check_together(given: Mapping[str, Any]) -> None:
    for one, other in (
        ("check", "force"),
        ("check", "prune"),
        ("check", "dry_run"),
        ("check", "limit"),
        ("check", "retry_failed"),
        ("force", "retry_failed"),
        ("dry_run", "report"),
    ):
        if given[one] and given[other]:
            flags = [f"--{name.replace('_', '-')}" for name in (one, other)]
            raise UsageError(f"{' and '.join(flags)} exclude each other; give one of them")
    if given["strict_env"] and not given["check"]:
        raise UsageError("--strict-env is for --check; give that too")


def path_of(model: Model) -> Path:
    """Where the files of a model are. Raises ModelError for one that is not on this machine."""
    if model.hub is not None and model.path is None:
        raise ModelError(f"{model.name}: a batch needs its model on this machine; fetch it first, and name its path")
    from ..configs.model_block import STARTER_FOLDER

    return model.path or STARTER_FOLDER


def _reasons(errors: Sequence[SdeditError]) -> list[Count]:
    """The failures by their words, each with the first text."""
    first: dict[str, SdeditError] = {}
    words = [error.word for error in errors if first.setdefault(error.word, error)]
    return [Count(word, words.count(word), "failed", first_line(first[word])) for word in first]


def _summary(errors: Sequence[SdeditError]) -> str:
    counts: dict[str, int] = {}
    for error in errors:
        counts[error.word] = counts.get(error.word, 0) + 1
    return listed([f"{count} {word}" for word, count in counts.items()], _MOST_SHOWN)
