"""The pictures of a run being made: inputs read, edited on a loaded model, and written with what is told of them."""

from __future__ import annotations

import hashlib
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

from .. import signals
from ..disk.checks import is_special
from ..errors import InternalError, OutOfMemory, OutputError, SdeditError
from ..pictures.codec import Picture
from ..pictures.prepared import prepared
from .ahead import Ahead
from .ledger import Ledger, safety_of
from .looking import Looking
from .names import fitting
from .placing import placed, save_step
from .request import Request, RunOptions
from .scarce import enough_memory
from .targets import Job, Target
from .telling import Telling
from .under_way import Finished, Open, Saved, Under
from .worker import EditedPicture, Late, OnStep, Preview, Task, Worker
from .writing import Writing

# Finished pictures that are held in memory until the disk has them.
_MOST_WAITING = 3


class _Refused(Exception):
    """What speaks against all pictures of a group."""

    def __init__(self, problem: SdeditError) -> None:
        super().__init__(problem)
        self.problem = problem


def _first(again: deque[Task], rest: Iterator[Task]) -> Iterator[Task]:
    """Those that are made again, then the rest; each is given out once, whoever asks."""
    while again:
        yield again.popleft()
    yield from rest


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
        self._pictures = self._left = left
        self._taken = taken
        self._ledger = ledger
        self._stdout = stdout
        self._looking = Looking(tell.to, shown=options.preview, animating=options.animating)
        self._making: dict[Task, Under] = {}
        self._unread: set[int] = set()  # jobs of the group whose input could not be read, by their index
        self._all_begun = False  # of the group
        self._begun = 0
        self._steps = self._steps_of_all = 0
        self._writing = Writing(self._written, self._told, _MOST_WAITING)

    def close(self) -> None:
        """Waits until what is made is written and told, whatever ended the making. A signal waits for that too."""
        with signals.held():
            self._writing.close()

    def make(self, jobs: Sequence[Job]) -> None:
        """Makes the pictures of jobs that one model makes, and has them saved."""
        size = jobs[0].size
        self._unread.clear()
        self._all_begun = False
        self._less(0)
        self._steps, self._steps_of_all = 0, sum(job.request.edit.steps_run() * len(job.targets) for job in jobs)
        ahead = Ahead(jobs, self._read, size or 2)
        inputs = iter(ahead)
        try:
            tasks = self._tasks(inputs)
            # Before the model is loaded, which takes longer than to see what is wrong with it.
            first = next(tasks, None)
            if first is None:
                return
            worker = self._loaded(jobs[0].request)
            if size is not None:
                self._tell.to.group(sum(len(job.targets) for job in jobs), size)
            self._edit(worker, chain([first], tasks), size)
            if self._making or not self._all_begun:
                raise InternalError("internal error: a group ended before all of its pictures; run the command again")
        except _Refused as refused:
            ahead.close()
            self._refuse(jobs, refused.problem)
        finally:
            ahead.close()

    def _refuse(self, jobs: Sequence[Job], problem: SdeditError) -> None:
        """Ends the jobs, none of which can be made; those whose input cannot be read have ended by that."""
        self._making.clear()
        for job in jobs:
            if job.index not in self._unread:
                self._less(len(job.targets))
                self._fail(job, problem)

    def _edit(self, worker: Worker, waiting: Iterable[Task], size: int | None) -> None:
        """Makes pictures; where memory does not suffice, fewer at a time."""
        again, rest = deque[Task](), iter(waiting)
        while True:
            self._writing.drain()  # what is written is said to have been made in other company
            self._ledger.shaped(size or 1)
            try:
                for task, outcome in worker.edits(_first(again, rest), size):
                    self._end(task, outcome)
                return
            except OutOfMemory as problem:
                under_way = list(self._making)
                if not under_way:
                    raise
                for under in self._making.values():  # they begin anew
                    self._steps -= under.steps
                    under.steps = 0
                if size is None or size == 1:
                    self._end(under_way.pop(0), problem)
                else:
                    size //= 2
                    self._tell.warn(f"{problem}; going on with {size} at a time, which may change last bits")
                again = deque(under_way)

    def _tasks(self, inputs: Iterator[tuple[Job, Picture | Exception]]) -> Generator[Task, None, None]:
        """The pictures to make of these jobs, as their inputs come. Raises what speaks against all of them.

        What there is no memory for comes again when all others are under way or made, and fails alone if it must.
        """
        late: list[Job] = []
        for job, read in chain(inputs, self._once_more(late)):
            signals.check()
            try:
                with enough_memory(job.shown):
                    if isinstance(read, Exception):
                        raise read
                    self._announce(job, read)
            except Exception as problem:
                if isinstance(problem, OutOfMemory) and self._total > 1 and job not in late:
                    late.append(job)
                elif isinstance(problem, self._options.bearable):
                    self._begin(job)
                    self._unread.add(job.index)
                    self._steps_of_all -= job.request.edit.steps_run() * len(job.targets)
                    self._less(len(job.targets))
                    self._fail(job, problem)
                else:
                    raise problem from None
                continue
            self._begin(job)
            yield from self._of(job, read)
        self._all_begun = True

    def _once_more(self, jobs: Sequence[Job]) -> Iterator[tuple[Job, Picture | Exception]]:
        """Their inputs, read one by one when each is asked for."""
        for job in tuple(jobs):
            yield from Ahead([job], self._read, 1)

    def _begin(self, job: Job) -> None:
        self._begun += 1
        self._tell_of(job)

    def _tell_of(self, job: Job) -> None:
        if job.size is None:
            self._tell.to.picture(job.shown, self._begun, self._total)

    def _read(self, job: Job) -> Picture:
        """The input of a job as it is worked on. Raises PictureError."""
        return prepared(job.source, self._options.max_megapixels, job.request.edit)

    def _announce(self, job: Job, picture: Picture) -> None:
        for note in picture.notes:
            self._tell.warn(f"{job.shown}: {note}", job.source)
        self._tell.host.check_asked(job.request)
        try:
            self._tell.check(job.request)
        except self._options.bearable as problem:
            raise _Refused(problem) from None
        self._tell.host.check_choices(job.request)
        self._tell.announce(job.request)
        self._tell.size(job, picture.rgb.size)

    def _of(self, job: Job, picture: Picture) -> Generator[Task, None, None]:
        of = Open(job, len(job.targets))
        for target in job.targets:
            self._tell_of(job)
            signals.check()
            edit = job.request.edit.varied({"seed": target.seed, "count": 1})
            under = Under(of, target, picture, time.monotonic(), edit.steps_run())
            task = Task(edit, picture, job.shown, job.format, self._watch(under))
            self._making[task] = under
            yield task

    def _end(self, task: Task, outcome: EditedPicture | SdeditError) -> None:
        """Has a picture saved that is made; notes what speaks against one that is not."""
        under = self._making.pop(task)
        self._expect(under, under.steps)
        if isinstance(outcome, EditedPicture):
            signals.check()
            self._save(Finished(under, outcome))
        elif isinstance(outcome, self._options.bearable):
            self._over(under, outcome)
        else:
            raise outcome

    def _expect(self, under: Under, steps: int) -> None:
        self._steps_of_all += steps - under.expected
        under.expected = steps

    def _less(self, pictures: int) -> None:
        """So many more have ended."""
        self._left -= pictures
        self._tell.to.ended(self._pictures - self._left, self._pictures)

    def _over(self, under: Under, problem: SdeditError | None) -> None:
        """A picture has ended; of a job some of whose pictures could not be made, it is said at its end."""
        self._less(1)
        of = under.of
        of.left -= 1
        of.refused += [problem] if problem else []
        if not of.left and of.refused:
            self._fail(of.job, of.refused[0])

    def _loaded(self, request: Request) -> Worker:
        """The model of a request. Raises what speaks against all pictures that it would make."""

        def loaded(facts: Mapping[str, Any]) -> None:
            self._ledger.loaded(facts)
            known = {name: value for name, value in facts.items() if name not in ("switched", "backend")}
            self._tell.events.emit("switch" if facts.get("switched") else "load", **known)
            for adapter in facts.get("adapters", ()):
                self._tell.to.note(adapter)
            how = "has other adapters after" if facts.get("switched") else "loaded in"
            words = "{model} {how} {seconds:.1f} s: {device}, {dtype}, {sampler}"
            self._tell.to.detail(words.format(how=how, **known))

        self._tell.to.loading(f"the {request.model.name} model")
        self._writing.drain()  # what is written is said to have been made in other circumstances
        try:
            return self._tell.host.load(request, self._tell.warn, loaded)
        except self._options.bearable as problem:
            raise _Refused(problem) from None

    def _watch(self, under: Under) -> OnStep:
        every, job, target = self._options.save_every, under.of.job, under.target

        def on_step(done: int, steps: int, preview: Preview) -> bool | None:
            signals.check()
            self._writing.collect()
            facts: dict[str, Any] = {"input": job.source, "seed": target.seed, "step": done, "steps": steps}
            if every and done % every == 0 and under.refused is None:
                path = self._step_path(job, target, done)
                try:
                    for image in preview():
                        facts["preview"] = save_step(path, image, under.picture, self._options.on_exists)
                except OutputError as problem:  # no reason to lose the picture itself
                    under.refused = problem
            self._tell.events.emit("step", **facts)
            self._expect(under, steps)
            self._steps += done - under.steps
            under.steps = done
            if job.size is None:
                self._tell.to.step(done, steps)
            else:  # of all that are edited together
                self._tell.to.step(self._steps, self._steps_of_all)
            self._looking.step(under.frames, done, steps, preview)
            return None

        return on_step

    def _step_path(self, job: Job, target: Target, done: int) -> Path:
        assert self._options.steps_dir is not None
        # Inputs of one name from several folders share the steps folder.
        number = f"{job.index:0{len(str(self._total))}d}-" if self._total > 1 else ""
        name = fitting(job.stem, lambda stem: f"{number}{stem}-{target.seed}-step-{done:03d}.png")
        return self._options.steps_dir / name

    def _save(self, finished: Finished) -> None:
        """Has a picture written beside the work; the last one, and what may wait for a reader, at once."""
        path = finished.under.target.path
        if self._left - self._writing.pending > 1 and path is not None and not is_special(path):
            self._writing.give(finished)
            return
        self._writing.drain()
        # A signal waits until what was written is told as well; of the command's last picture it comes too late.
        with signals.held():
            try:
                saved: Saved | BaseException | None = self._written(finished)
            except self._options.bearable as problem:
                saved = problem
            if self._left == 1 and isinstance(saved, Saved) and not self._options.goes_on:
                signals.settle()
            self._told(finished, saved)

    def _written(self, finished: Finished) -> Saved | None:
        """Writes a picture, each step of it in the books; None as `placed`. Raises OutputError and OutOfMemory."""
        under, data = finished.under, finished.edited.data
        with enough_memory(under.of.job.shown):
            data = data.value() if isinstance(data, Late) else data
        sha256 = hashlib.sha256(data).hexdigest()
        self._ledger.intends(under.target, sha256, under.picture.sha256)
        target = placed(under.target, data, self._options.on_exists, self._taken, self._stdout)
        if target is None:
            return None
        seconds = time.monotonic() - under.started
        self._ledger.did(target, sha256, seconds, safety_of(finished.edited.nsfw))
        self._ledger.made(under.of.job, target, under.picture, data)
        return Saved(target, sha256, seconds)

    def _told(self, finished: Finished, saved: Saved | BaseException | None) -> None:
        """Says that a picture is in place, that another is (None), or why none is."""
        under, edited = finished.under, finished.edited
        if isinstance(saved, self._options.bearable):
            self._over(under, saved)
            return
        if isinstance(saved, BaseException):
            raise saved
        job = under.of.job
        if saved is None:
            self._tell.skipped(job, under.target, drawn_seed=self._options.drawn_seed)
            self._over(under, under.refused)
            return
        target = saved.target
        animation = self._animated(under, edited)
        self._tell.events.emit(
            "made" if target.cell and target.path is None else "saved",
            input=job.source,
            output=target.shown,
            seed=target.seed,
            width=edited.width,
            height=edited.height,
            format=job.format,
            sha256=saved.sha256,
            seconds=round(saved.seconds, 3),
            **({} if edited.nsfw is None else {"nsfw": edited.nsfw}),
            **({"animation": str(animation)} if isinstance(animation, Path) else {}),
        )
        if edited.nsfw:
            self._tell.warn(f"{target.shown}: the safety checker flags it", job.source)
        self._tell.to.note(f"{job.shown} -> {target.shown} (seed {target.seed}, {saved.seconds:.1f} s)")
        if isinstance(animation, Path):
            self._tell.to.note(f"{job.shown} -> {animation} (an animation of its steps)")
        self._over(under, under.refused or (None if isinstance(animation, Path) else animation))

    def _animated(self, under: Under, edited: EditedPicture) -> Path | SdeditError | None:
        """The animation of a picture that is in place, None where none is wanted, or why there is none."""
        job, data = under.of.job, edited.data
        again = data.value if isinstance(data, Late) else lambda: data
        try:
            return self._looking.write(job, under.target, under.frames, under.picture, again)
        except self._options.bearable as problem:
            return problem
