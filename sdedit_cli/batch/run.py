"""One run from the resolved request to its outcome: settle names, load once, edit, write, report."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from .. import signals
from ..disk.checks import check_folder
from ..disk.leftovers import clear_leftovers
from ..disk.whole import TakenError, write_bytes
from ..errors import AllFailed, BlockedBySafety, NotFiniteError, OutputError, PictureError, SdeditError, SomeFailed
from ..options import rgb_of
from ..pictures.codec import Picture, open_picture, read_picture
from ..pictures.encode import encode
from ..pictures.resize import resized
from ..pictures.source import read_bytes
from .events import Events, write_all
from .names import fitting
from .request import Request
from .targets import Job, Target, settle
from .worker import EditedPicture, OnStep, Reporter, Worker

if TYPE_CHECKING:
    from PIL import Image

# What goes wrong with one picture does not concern the others.
_OF_ONE_PICTURE = (PictureError, OutputError, NotFiniteError, BlockedBySafety)


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What a run does besides the edit itself."""

    on_exists: str = "fail"
    save_every: int | None = None
    steps_dir: Path | None = None
    dry_run: bool = False
    max_megapixels: float = 100.0
    drawn_seed: bool = False


class Run:
    """The state of one run: the model once it is loaded, and the errors so far.

    `check` raises what speaks against the request, `load` gives the loaded model (told what to call with a warning);
    each is called once, when there is a picture to edit. `advise` says what is to be known of a picture of a size.
    """

    def __init__(
        self,
        request: Request,
        jobs: Sequence[Job],
        options: RunOptions,
        check: Callable[[], None],
        load: Callable[[Callable[[str], None]], Worker],
        to: Reporter,
        events: Events,
        stdout: BinaryIO | None,
        advise: Callable[[tuple[int, int]], str] = lambda size: "",
    ) -> None:
        self.request = request
        self.edit = request.edit
        self.jobs = jobs
        self.options = options
        self.to = to
        self.events = events
        self.stdout = stdout
        self.errors: list[SdeditError] = []
        self._check = check
        self._load = load
        self._advise = advise
        self._advised: set[str] = set()
        self._announced = False
        self._worker: Worker | None = None
        self._taken: set[Path] = set()
        self._last: Target | None = None

    def execute(self) -> None:
        """Makes every picture that can be made. Raises the error of a single input, SomeFailed or AllFailed."""
        edit = self.edit
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
        ready = self._settled()
        self._last = ready[-1].targets[-1] if ready else None
        self._clear(ready)
        for number, job in enumerate(ready, 1):
            with self._guarded(job):
                if self.options.dry_run:
                    self._describe(job)
                else:
                    self._edit(job, number)
        self._judge()

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

    def _announce(self) -> None:
        """Checks the request once it is clear that there is a picture to edit, and says what holds for all of them."""
        if self._announced:
            return
        self._check()
        self._announced = True
        edit, like = self.edit, self.request.like
        if like and like.ignored:
            self._warn(f"{like.layer.source}: ignored is {'; '.join(like.ignored)}")
        for note in self.request.notes:
            self.to.note(note)
        if self.request.model.built_in:
            self.to.note("no model named (-m): using the small built-in one")
        if self.request.model.knows:
            self.to.note(f"the {self.request.model.name} model knows {self.request.model.knows}")
        if not edit.prompt and edit.prompt_embeds is None:
            self.to.note("no prompt (-p): nothing says what the picture shall show")
        seed = "a new seed" if edit.seed is None else f"seed {edit.seed}"
        self.to.note(f"{seed}, {edit.steps_run()} of {edit.steps_total()} steps (strength {edit.strength:g})")

    @contextmanager
    def _guarded(self, job: Job) -> Generator[None, None, None]:
        """Within it, what goes wrong with one picture is told and kept for the end."""
        try:
            yield
        except _OF_ONE_PICTURE as error:
            self.errors.append(error)
            self.events.emit("failed", input=job.source, error=str(error), exit_code=error.exit_code)
            if len(self.jobs) > 1:
                self.to.error(str(error))

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
            if target.path is None:
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
        width, height = self.edit.size_of(image.size)
        self._announce()
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
        text = self._advise(size)
        if text:
            self._warn(f"{job.shown}: {text}", job.source, quietly=text in self._advised)
            self._advised.add(text)

    def _edit(self, job: Job, number: int) -> None:
        """Makes and saves the pictures of a job."""
        self.to.picture(job.shown, number, len(self.jobs))
        background = self.edit.background and rgb_of(self.edit.background)
        picture = read_picture(job.source, self.options.max_megapixels, background or None)
        for note in picture.notes:
            self._warn(f"{job.shown}: {note}", job.source)
        picture = resized(picture, self.edit.size_of(picture.rgb.size))
        self._announce()
        self._tell_size(job, picture.rgb.size)
        worker = self._loaded()
        refused: list[SdeditError] = []
        for target in job.targets:
            self.to.picture(job.shown, number, len(self.jobs))
            signals.check()
            started = time.monotonic()
            edit = replace(self.edit, seed=target.seed, count=1)
            try:
                edited = worker.edit(edit, picture, job.shown, job.format, self._watch(job, target, picture))
            except (NotFiniteError, BlockedBySafety) as error:
                refused.append(error)  # the next seed may fare better
                continue
            signals.check()
            self._save(job, target, edited, started)
        if refused:
            raise refused[0]

    def _loaded(self) -> Worker:
        if self._worker is None:
            self.to.loading(f"the {self.request.model.name} model")
            self._worker = self._load(self._warn)
            facts = self._worker.facts
            self.events.emit("load", **facts)
            for adapter in facts.get("adapters", ()):
                self.to.note(adapter)
            self.to.detail("{model} loaded in {seconds:.1f} s: {device}, {dtype}, {sampler}".format(**facts))
        return self._worker

    def _watch(self, job: Job, target: Target, picture: Picture) -> OnStep:
        every = self.options.save_every

        def on_step(done: int, steps: int, preview: Callable[[], list[Image.Image]]) -> bool | None:
            signals.check()
            facts: dict[str, Any] = {"input": job.source, "seed": target.seed, "step": done, "steps": steps}
            if every and done % every == 0:
                facts["preview"] = self._save_step(job, target, picture, preview()[0], done)
            self.events.emit("step", **facts)
            self.to.step(done, steps)
            return None

        return on_step

    def _save_step(self, job: Job, target: Target, picture: Picture, image: Image.Image, done: int) -> str:
        assert self.options.steps_dir is not None
        # Inputs of one name from several folders share the steps folder.
        number = f"{job.index:0{len(str(len(self.jobs)))}d}-" if len(self.jobs) > 1 else ""
        name = fitting(job.stem, lambda stem: f"{number}{stem}-{target.seed}-step-{done:03d}.png")
        wanted = self.options.steps_dir / name
        policy = "overwrite" if self.options.on_exists == "overwrite" else "suffix"
        path = settle(wanted, policy, set())
        assert path is not None
        write_bytes(path, encode(image, picture.alpha, picture.icc, "png"), replace=policy == "overwrite")
        return str(path)

    def _save(self, job: Job, target: Target, edited: EditedPicture, started: float) -> None:
        # A signal waits until what was written is told as well; of the last picture it comes too late.
        with signals.held():
            is_last = target is self._last
            target = self._placed(target, edited.data)
            if is_last:
                signals.settle()
            seconds = time.monotonic() - started
            self.events.emit(
                "saved",
                input=job.source,
                output=target.shown,
                seed=target.seed,
                width=edited.width,
                height=edited.height,
                format=job.format,
                sha256=hashlib.sha256(edited.data).hexdigest(),
                seconds=round(seconds, 3),
                **({} if edited.nsfw is None else {"nsfw": edited.nsfw}),
            )
            if edited.nsfw:
                self._warn(f"{target.shown}: the safety checker flags it", job.source)
            self.to.note(f"{job.shown} -> {target.shown} (seed {target.seed}, {seconds:.1f} s)")

    def _placed(self, target: Target, data: bytes) -> Target:
        """Writes a picture under its name, or with `suffix` under the next one that is free; the target with it."""
        if target.path is None:
            assert self.stdout is not None
            write_all(self.stdout, data)
            return target
        while True:
            try:
                write_bytes(target.path, data, replace=self.options.on_exists == "overwrite")
                return target
            except TakenError:
                if self.options.on_exists != "suffix":
                    raise
                target = replace(target, path=settle(target.wanted or target.path, "suffix", self._taken))
                assert target.path is not None

    def _warn(self, text: str, source: str | None = None, *, quietly: bool = False) -> None:
        self.events.emit("warning", message=text, **({"input": source} if source else {}))
        if not quietly:
            self.to.warn(text)
