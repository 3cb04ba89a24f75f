"""The pictures of a run being made: inputs read, edited on a loaded model, and written with what is told of them."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from .. import signals
from ..errors import OutOfMemory, SdeditError
from ..options import rgb_of
from ..pictures.codec import Picture, read_picture
from ..pictures.resize import resized
from .ledger import Ledger
from .names import fitting
from .placing import placed, save_step
from .request import Request, RunOptions
from .targets import Job, Target
from .telling import Telling
from .worker import EditedPicture, OnStep, Task, Worker

if TYPE_CHECKING:
    from PIL import Image


@dataclass(eq=False)
class _Open:
    """A job under way: how many of its pictures have not ended yet, and what spoke against the others."""

    job: Job
    left: int
    refused: list[SdeditError] = field(default_factory=list[SdeditError])


@dataclass(frozen=True, eq=False)
class _Under:
    """A picture under way."""

    of: _Open
    target: Target
    picture: Picture
    started: float


class Making:
    """Makes the pictures of a run of `total` jobs. `fail` is told of each job of which one could not be made; `taken`
    are the paths promised to its pictures; `left` of them are not made yet."""

    def __init__(
        self,
        options: RunOptions,
        tell: Telling,
        fail: Callable[[Job, SdeditError], None],
        *,
        total: int,
        left: int,
        taken: set[Path],
        ledger: Ledger,
        stdout: BinaryIO | None,
    ) -> None:
        self._options = options
        self._tell = tell
        self._fail = fail
        self._total = total
        self._left = left
        self._taken = taken
        self._ledger = ledger
        self._stdout = stdout
        self._making: dict[Task, _Under] = {}
        self._begun = 0
        self._steps = self._steps_of_all = 0

    def make(self, jobs: Sequence[Job]) -> None:
        """Makes and saves the pictures of jobs that one model makes."""
        tasks = self._tasks(jobs)
        first = next(tasks, None)  # before the model is loaded, which takes longer than to see what is wrong with it
        if first is None:
            return
        try:
            worker = self._loaded(jobs[0].request)
        except self._options.bearable as problem:
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
                    self._tell.warn(f"{problem}; going on with {size} at a time, which may change last bits")
                waiting = chain(under_way, tasks)

    def _tasks(self, jobs: Sequence[Job]) -> Generator[Task, None, None]:
        """The pictures to make of these jobs, each input read when its turn comes."""
        for job in jobs:
            try:
                picture = self._read(job)
            except self._options.bearable as error:
                self._left -= len(job.targets)
                self._fail(job, error)
                continue
            yield from self._of(job, picture)

    def _read(self, job: Job) -> Picture:
        self._begun += 1
        self._tell.to.picture(job.shown, self._begun, self._total)
        edit = job.request.edit
        background = edit.background and rgb_of(edit.background)
        picture = read_picture(job.source, self._options.max_megapixels, background or None)
        for note in picture.notes:
            self._tell.warn(f"{job.shown}: {note}", job.source)
        picture = resized(picture, edit.size_of(picture.rgb.size))
        self._tell.announce(job.request)
        self._tell.size(job, picture.rgb.size)
        return picture

    def _of(self, job: Job, picture: Picture) -> Generator[Task, None, None]:
        of = _Open(job, len(job.targets))
        for target in job.targets:
            self._tell.to.picture(job.shown, self._begun, self._total)
            signals.check()
            edit = job.request.edit.varied({"seed": target.seed, "count": 1})
            task = Task(edit, picture, job.shown, job.format, self._watch(job, target, picture))
            self._making[task] = _Under(of, target, picture, time.monotonic())
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
            except self._options.bearable as error:
                of.refused.append(error)
        elif isinstance(outcome, self._options.bearable):
            of.refused.append(outcome)
        else:
            raise outcome
        self._left -= 1
        if not of.left and of.refused:
            self._fail(of.job, of.refused[0])

    def _loaded(self, request: Request) -> Worker:
        def loaded(facts: Mapping[str, Any]) -> None:
            self._ledger.loaded(facts)
            known = {name: value for name, value in facts.items() if name != "switched"}
            self._tell.events.emit("switch" if facts.get("switched") else "load", **known)
            for adapter in facts.get("adapters", ()):
                self._tell.to.note(adapter)
            how = "has other adapters after" if facts.get("switched") else "loaded in"
            words = "{model} {how} {seconds:.1f} s: {device}, {dtype}, {sampler}"
            self._tell.to.detail(words.format(how=how, **known))

        self._tell.to.loading(f"the {request.model.name} model")
        return self._tell.host.load(request, self._tell.warn, loaded)

    def _watch(self, job: Job, target: Target, picture: Picture) -> OnStep:
        every = self._options.save_every

        def on_step(done: int, steps: int, preview: Callable[[], list[Image.Image]]) -> bool | None:
            signals.check()
            facts: dict[str, Any] = {"input": job.source, "seed": target.seed, "step": done, "steps": steps}
            if every and done % every == 0:
                facts["preview"] = save_step(
                    self._step_path(job, target, done), preview()[0], picture, self._options.on_exists
                )
            self._tell.events.emit("step", **facts)
            if job.size is None:
                self._tell.to.step(done, steps)
            else:  # of all that are edited together
                self._steps += 1
                self._tell.to.step(self._steps, self._steps_of_all)
            return None

        return on_step

    def _step_path(self, job: Job, target: Target, done: int) -> Path:
        assert self._options.steps_dir is not None
        # Inputs of one name from several folders share the steps folder.
        number = f"{job.index:0{len(str(self._total))}d}-" if self._total > 1 else ""
        name = fitting(job.stem, lambda stem: f"{number}{stem}-{target.seed}-step-{done:03d}.png")
        return self._options.steps_dir / name

    def _save(self, job: Job, making: _Under, edited: EditedPicture) -> None:
        # A signal waits until what was written is told as well; of the last picture it comes too late.
        with signals.held():
            sha256 = hashlib.sha256(edited.data).hexdigest()
            self._ledger.intends(making.target, sha256, making.picture.sha256)
            target = placed(making.target, edited.data, self._options.on_exists, self._taken, self._stdout)
            seconds = time.monotonic() - making.started
            self._ledger.did(target, sha256, seconds)
            if self._left == 1:
                signals.settle()
            self._tell.events.emit(
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
                self._tell.warn(f"{target.shown}: the safety checker flags it", job.source)
            self._tell.to.note(f"{job.shown} -> {target.shown} (seed {target.seed}, {seconds:.1f} s)")
