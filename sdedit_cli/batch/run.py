"""One run from its jobs to their outcome: settle names, load once, edit, write, report.

`sdedit run` is one request for all inputs; a batch has jobs of several requests, and a ledger.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import chain, groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from .. import signals
from ..disk.checks import check_folder
from ..disk.leftovers import clear_leftovers
from ..errors import AllFailed, OutOfMemory, OutputError, SdeditError, SomeFailed
from ..options import rgb_of
from ..pictures.codec import Picture, open_picture, read_picture
from ..pictures.resize import resized
from ..pictures.source import read_bytes
from .events import Events
from .ledger import Ledger
from .names import fitting
from .placing import placed, save_step
from .request import Request, RunOptions
from .targets import Job, Target, settle
from .worker import EditedPicture, Host, OnStep, Reporter, Task, Worker

if TYPE_CHECKING:
    from PIL import Image


@dataclass(eq=False)
class _Open:
    """A job under way: how many of its pictures have not ended yet, and what spoke against the others."""

    job: Job
    left: int
    refused: list[SdeditError] = field(default_factory=list[SdeditError])


@dataclass(frozen=True, eq=False)
class _Making:
    """A picture under way."""

    of: _Open
    target: Target
    picture: Picture
    started: float


class Run:
    """The state of one run: the model once it is loaded, and the errors so far.

    `request` holds what all jobs have in common. `host` checks requests, loads their models, and advises.
    """

    def __init__(
        self,
        request: Request,
        jobs: Sequence[Job],
        options: RunOptions,
        host: Host,
        to: Reporter,
        events: Events,
        stdout: BinaryIO | None = None,
        ledger: Ledger | None = None,
    ) -> None:
        self.request = request
        self.jobs = jobs
        self.options = options
        self.host = host
        self.to = to
        self.events = events
        self.stdout = stdout
        self.ledger = ledger or Ledger()
        self.errors: list[SdeditError] = []
        self._advised: set[str] = set()
        self._announced: set[object] = set()
        self._making: dict[Task, _Making] = {}
        self._taken: set[Path] = set()
        self._left = 0
        self._begun = 0
        self._steps = self._steps_of_all = 0

    def execute(self) -> None:
        """Makes every picture that can be made. Raises the error of a single input, SomeFailed or AllFailed."""
        self.start()
        self.work()
        self._judge()

    def start(self) -> None:
        """Tells programs what is to be done."""
        edit = self.request.edit
        self.events.emit(
            "start",
            inputs=len(self.jobs),
            pictures=sum(len(job.targets) for job in self.jobs),
            model=self.request.model.name,
            edit={**edit.saved(), "count": edit.count},
            steps_run=edit.steps_run(),
            steps_total=edit.steps_total(),
            dry_run=self.options.dry_run,
        )

    def work(self) -> None:
        """Makes every picture that can be made; `errors` has what went wrong."""
        ready = self._settled()
        self._left = sum(len(job.targets) for job in ready)
        self._clear(ready)
        if self.options.dry_run:
            for job in ready:
                with self._guarded(job):
                    self._describe(job)
        else:
            for _, group in groupby(ready, key=lambda job: (self.host.group(job.request), job.size)):
                self._work(list(group))

    def _clear(self, jobs: Sequence[Job]) -> None:
        """Removes, and says so, what killed runs left in the folders to write into."""
        if self.options.dry_run:
            return
        folders = dict.fromkeys(target.path.parent for job in jobs for target in job.targets if target.path)
        if self.options.steps_dir:
            folders[self.options.steps_dir] = None
        for folder in folders:
            for name in clear_leftovers(folder):
                self._warn(f"{folder / name}: removed; a run that was killed left it unfinished")

    def _announce(self, request: Request) -> None:
        """Checks a request once it is clear that there is a picture to edit, and says what holds for all of its."""
        group = self.host.group(request)
        if group in self._announced:
            return
        self.host.check(request)
        is_first = not self._announced
        self._announced.add(group)
        edit, like = request.edit, request.like
        if not is_first:
            return
        if like and like.ignored:
            self._warn(f"{like.layer.source}: ignored is {'; '.join(like.ignored)}")
        for note in request.notes:
            self.to.note(note)
        if request.model.built_in:
            self.to.note("no model named (-m): using the small built-in one")
        if request.model.knows:
            self.to.note(f"the {request.model.name} model knows {request.model.knows}")
        if not edit.prompt and edit.prompt_embeds is None:
            self.to.note("no prompt (-p): nothing says what the picture shall show")
        seed = "a new seed" if edit.seed is None else f"seed {edit.seed}"
        self.to.note(f"{seed}, {edit.steps_run()} of {edit.steps_total()} steps (strength {edit.strength:g})")

    @contextmanager
    def _guarded(self, job: Job) -> Generator[None, None, None]:
        """Within it, what goes wrong with one picture is told and kept for the end."""
        try:
            yield
        except self.options.bearable as error:
            self._failed(job, error)

    def _failed(self, job: Job, error: SdeditError) -> None:
        self.errors.append(error)
        self.ledger.failed(job, error)
        self.events.failed(job.source, error)
        if len(self.jobs) > 1 or self.options.keep_going:  # else the error is the end of the run, and told there
            self.to.error(str(error))
        if self.options.fail_fast:
            raise SomeFailed("one input failed, and --fail-fast ends the run; those before it are done")

    def _judge(self) -> None:
        if not self.errors:
            return
        if len(self.jobs) == 1:
            raise self.errors[0]
        counts = self.events.counts
        if len(self.errors) == len(self.jobs) and counts["saved"] + counts["skipped"] == 0:
            raise AllFailed(f"all {len(self.jobs)} inputs failed")
        raise SomeFailed(f"{len(self.errors)} of {len(self.jobs)} inputs failed; the others are done")

    def _settled(self) -> list[Job]:
        """The jobs with the pictures to make: what fails or is skipped for its name alone is out before any loading."""
        ready: list[Job] = []
        for job in self.jobs:
            with self._guarded(job):
                targets = tuple(self._free(job))
                self._check_steps_dir()
                if targets:
                    ready.append(replace(job, targets=targets))
        return ready

    def _free(self, job: Job) -> Generator[Target, None, None]:
        """The pictures of a job that may be written, under the names that they get."""
        for target in job.targets:
            if target.path is None or target.replaces:
                yield target
                continue
            path = settle(target.path, self.options.on_exists, self._taken)
            if path is None:
                self.events.emit("skipped", input=job.source, output=target.shown, **self._seed(target))
                self.to.note(f"{target.shown} exists already: skipped")
                continue
            check_folder(path.parent)
            self._taken.add(path)
            yield replace(target, path=path, wanted=target.path)

    def _check_steps_dir(self) -> None:
        folder = self.options.steps_dir
        if folder is None or self.options.dry_run:
            return
        check_folder(folder)
        there = next(iter(sorted(folder.glob("*-step-*.png"))), None) if self.options.on_exists == "fail" else None
        if there is not None:
            raise OutputError(f"{there}: exists already; name an empty --steps-dir, or --on-exists overwrite or suffix")

    def _describe(self, job: Job) -> None:
        """Says what would be done for a job."""
        image = open_picture(read_bytes(job.source), job.shown, self.options.max_megapixels)
        width, height = job.request.edit.size_of(image.size)
        self._announce(job.request)
        self._tell_size(job, (width, height))
        for target in job.targets:
            self.events.emit(
                "plan", input=job.source, output=target.shown, **self._seed(target), width=width, height=height
            )
            seed = "a new seed" if self.options.drawn_seed else f"seed {target.seed}"
            self.to.note(f"would edit {job.shown} ({width} x {height}) -> {target.shown} ({seed})")

    def _seed(self, target: Target) -> dict[str, int]:
        """The seed of a picture that is not made, for programs: nothing when it would have been drawn."""
        return {} if self.options.drawn_seed else {"seed": target.seed}

    def _tell_size(self, job: Job, size: tuple[int, int]) -> None:
        """Warns of a picture whose size does not suit the model: programs for each, people once in the same words."""
        text = self.host.advice(job.request, size)
        if text:
            self._warn(f"{job.shown}: {text}", job.source, quietly=text in self._advised)
            self._advised.add(text)

    def _work(self, jobs: Sequence[Job]) -> None:
        """Makes and saves the pictures of jobs that one model makes."""
        tasks = self._tasks(jobs)
        first = next(tasks, None)  # before the model is loaded, which takes longer than to see what is wrong with it
        if first is None:
            return
        try:
            worker = self._loaded(jobs[0].request)
        except self.options.bearable as problem:
            for task in chain([first], tasks):
                self._end(task, problem)
            return
        waiting, size = chain([first], tasks), jobs[0].size
        self._steps, self._steps_of_all = 0, sum(job.request.edit.steps_run() * len(job.targets) for job in jobs)
        while True:
            try:
                for task, outcome in worker.edits(waiting, size):
                    self._end(task, outcome)
                return
            except OutOfMemory as problem:
                under_way = list(self._making)
                if not under_way:
                    raise
                if size is None or size == 1:
                    self._end(under_way.pop(0), problem)
                else:
                    size //= 2
                    self._warn(f"{problem}; going on with {size} at a time, which may change last bits")
                waiting = chain(under_way, tasks)

    def _tasks(self, jobs: Sequence[Job]) -> Generator[Task, None, None]:
        """The pictures to make of these jobs, each input read when its turn comes."""
        for job in jobs:
            try:
                picture = self._read(job)
            except self.options.bearable as error:
                self._left -= len(job.targets)
                self._failed(job, error)
                continue
            yield from self._of(job, picture)

    def _read(self, job: Job) -> Picture:
        self._begun += 1
        self.to.picture(job.shown, self._begun, len(self.jobs))
        edit = job.request.edit
        background = edit.background and rgb_of(edit.background)
        picture = read_picture(job.source, self.options.max_megapixels, background or None)
        for note in picture.notes:
            self._warn(f"{job.shown}: {note}", job.source)
        picture = resized(picture, edit.size_of(picture.rgb.size))
        self._announce(job.request)
        self._tell_size(job, picture.rgb.size)
        return picture

    def _of(self, job: Job, picture: Picture) -> Generator[Task, None, None]:
        of = _Open(job, len(job.targets))
        for target in job.targets:
            self.to.picture(job.shown, self._begun, len(self.jobs))
            signals.check()
            edit = replace(job.request.edit, seed=target.seed, count=1)
            task = Task(edit, picture, job.shown, job.format, self._watch(job, target, picture))
            self._making[task] = _Making(of, target, picture, time.monotonic())
            yield task

    def _end(self, task: Task, outcome: EditedPicture | SdeditError) -> None:
        """Saves a picture that is made; of a job some of whose pictures could not be made, says so at its end."""
        making = self._making.pop(task)
        of = making.of
        of.left -= 1
        if isinstance(outcome, EditedPicture):
            signals.check()
            try:
                self._save(of.job, making, outcome)
            except self.options.bearable as error:
                of.refused.append(error)
        elif isinstance(outcome, self.options.bearable):
            of.refused.append(outcome)
        else:
            raise outcome
        self._left -= 1
        if not of.left and of.refused:
            self._failed(of.job, of.refused[0])

    def _loaded(self, request: Request) -> Worker:
        def loaded(facts: Mapping[str, Any]) -> None:
            self.ledger.loaded(facts)
            self.events.emit("load", **facts)
            for adapter in facts.get("adapters", ()):
                self.to.note(adapter)
            self.to.detail("{model} loaded in {seconds:.1f} s: {device}, {dtype}, {sampler}".format(**facts))

        self.to.loading(f"the {request.model.name} model")
        return self.host.load(request, self._warn, loaded)

    def _watch(self, job: Job, target: Target, picture: Picture) -> OnStep:
        every = self.options.save_every

        def on_step(done: int, steps: int, preview: Callable[[], list[Image.Image]]) -> bool | None:
            signals.check()
            facts: dict[str, Any] = {"input": job.source, "seed": target.seed, "step": done, "steps": steps}
            if every and done % every == 0:
                facts["preview"] = save_step(
                    self._step_path(job, target, done), preview()[0], picture, self.options.on_exists
                )
            self.events.emit("step", **facts)
            if job.size is None:
                self.to.step(done, steps)
            else:  # of all that are edited together
                self._steps += 1
                self.to.step(self._steps, self._steps_of_all)
            return None

        return on_step

    def _step_path(self, job: Job, target: Target, done: int) -> Path:
        assert self.options.steps_dir is not None
        # Inputs of one name from several folders share the steps folder.
        number = f"{job.index:0{len(str(len(self.jobs)))}d}-" if len(self.jobs) > 1 else ""
        name = fitting(job.stem, lambda stem: f"{number}{stem}-{target.seed}-step-{done:03d}.png")
        return self.options.steps_dir / name

    def _save(self, job: Job, making: _Making, edited: EditedPicture) -> None:
        # A signal waits until what was written is told as well; of the last picture it comes too late.
        with signals.held():
            sha256 = hashlib.sha256(edited.data).hexdigest()
            self.ledger.intends(making.target, sha256, making.picture.sha256)
            target = placed(making.target, edited.data, self.options.on_exists, self._taken, self.stdout)
            seconds = time.monotonic() - making.started
            self.ledger.did(target, sha256, seconds)
            if self._left == 1:
                signals.settle()
            self.events.emit(
                "saved",
                input=job.source,
                output=target.shown,
                seed=target.seed,
                width=edited.width,
                height=edited.height,
                format=job.format,
                sha256=sha256,
                seconds=round(seconds, 3),
                **({} if edited.nsfw is None else {"nsfw": edited.nsfw}),
            )
            if edited.nsfw:
                self._warn(f"{target.shown}: the safety checker flags it", job.source)
            self.to.note(f"{job.shown} -> {target.shown} (seed {target.seed}, {seconds:.1f} s)")

    def _warn(self, text: str, source: str | None = None, *, quietly: bool = False) -> None:
        self.events.emit("warning", message=text, **({"input": source} if source else {}))
        if not quietly:
            self.to.warn(text)
