"""One `sdedit run` from the resolved request to the exit code: settle names, load once, edit, write, report."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from .. import signals
from ..cli.flags import Request
from ..cli.preflight import Preflight
from ..cli.render import Reporter
from ..cli.worker import Made, Maker
from ..disk.checks import check_folder
from ..disk.whole import write_bytes
from ..errors import AllFailed, BlockedBySafety, NotFiniteError, OutputError, PictureError, SdeditError, SomeFailed
from ..pictures.codec import Picture, encode, open_picture, read_bytes, read_picture
from .events import Events, write_all
from .targets import Job, settle

if TYPE_CHECKING:
    from PIL import Image

# What goes wrong with one picture does not concern the others.
_OF_ONE_PICTURE = (PictureError, OutputError, NotFiniteError, BlockedBySafety)


@dataclass(frozen=True, slots=True)
class Settings:
    """What a run does besides the edit itself."""

    on_exists: str = "fail"
    save_every: int | None = None
    steps_dir: Path | None = None
    dry_run: bool = False
    max_megapixels: float = 100.0


@dataclass(frozen=True, slots=True)
class Output:
    """One picture to make: its seed and its file, None for stdout."""

    seed: int
    target: Path | None

    @property
    def shown(self) -> str:
        return "stdout" if self.target is None else str(self.target)


class Run:
    """The state of one run: the model once it is loaded, and the errors so far."""

    def __init__(
        self,
        request: Request,
        jobs: Sequence[Job],
        settings: Settings,
        to: Reporter,
        events: Events,
        stdout: BinaryIO | None,
    ) -> None:
        self.request = request
        self.edit = request.edit
        self.jobs = jobs
        self.settings = settings
        self.to = to
        self.events = events
        self.stdout = stdout
        self.errors: list[SdeditError] = []
        self._maker: Maker | None = None
        self._announced = False
        self._preflight = Preflight(request)

    def go(self) -> None:
        """Makes every picture that can be made. Raises the error of a single input, SomeFailed or AllFailed."""
        edit = self.edit
        model = self.request.model
        self.events.emit(
            "start",
            inputs=len(self.jobs),
            pictures=sum(len(job.targets) for job in self.jobs),
            model=model.name,
            edit={**edit.saved(), "count": edit.count},
            steps_run=edit.steps_run(),
            steps_total=edit.steps_total(),
            dry_run=self.settings.dry_run,
        )
        ready = self._settled()
        for number, (job, outputs) in enumerate(ready, 1):
            with self._guarded(job):
                if self.settings.dry_run:
                    self._plan(job, outputs)
                else:
                    self._one(job, outputs, number)
        self._judge()

    def _announce(self) -> None:
        """Says once what holds for all pictures, when it is clear that there is one to edit."""
        if self._announced:
            return
        self._announced = True
        edit, like = self.edit, self.request.like
        if like and like.ignored:
            self._warn(f"{like.layer.source}: not taken over is {'; '.join(like.ignored)}")
        if self.request.model.built_in:
            self.to.note("no model named (-m): using the small built-in one")
        self.to.note(f"seed {edit.seed}, {edit.steps_run()} of {edit.steps_total()} steps (strength {edit.strength:g})")

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

    def _settled(self) -> list[tuple[Job, list[Output]]]:
        """The outputs to make, by job: what fails or is skipped for its name alone is out before anything is loaded."""
        taken: set[Path] = set()
        ready: list[tuple[Job, list[Output]]] = []
        for job in self.jobs:
            with self._guarded(job):
                outputs = self._outputs(job, taken)
                if outputs:
                    ready.append((job, outputs))
        return ready

    def _outputs(self, job: Job, taken: set[Path]) -> list[Output]:
        outputs: list[Output] = []
        for seed, wanted in zip(self.edit.seeds(), job.targets, strict=True):
            target = None if wanted is None else settle(wanted, self.settings.on_exists, taken)
            if wanted is not None and target is None:
                self.events.emit("skipped", input=job.source, output=str(wanted), seed=seed)
                self.to.note(f"{wanted} exists already: skipped")
                continue
            if target is not None:
                check_folder(target.parent)
                taken.add(target)
            outputs.append(Output(seed, target))
        self._check_steps_dir(job)
        return outputs

    def _check_steps_dir(self, job: Job) -> None:
        folder = self.settings.steps_dir
        if folder is None or self.settings.dry_run:
            return
        check_folder(folder)
        there = next(iter(sorted(folder.glob("*-step-*.png"))), None) if self.settings.on_exists == "fail" else None
        if there is not None:
            raise OutputError(f"{there}: exists already; name an empty --steps-dir, or --on-exists overwrite or suffix")

    def _plan(self, job: Job, outputs: Sequence[Output]) -> None:
        image = open_picture(read_bytes(job.source), job.shown, self.settings.max_megapixels)
        width, height = image.size
        self._preflight.once(dry_run=True)
        self._announce()
        for output in outputs:
            self.events.emit(
                "plan", input=job.source, output=output.shown, seed=output.seed, width=width, height=height
            )
            self.to.note(f"would edit {job.shown} ({width} x {height}) -> {output.shown} (seed {output.seed})")

    def _one(self, job: Job, outputs: Sequence[Output], number: int) -> None:
        self.to.picture(job.shown, number, len(self.jobs))
        picture = read_picture(job.source, self.settings.max_megapixels)
        for note in picture.notes:
            self._warn(f"{job.shown}: {note}", job.source)
        self._preflight.once()
        self._announce()
        maker = self._loaded()
        refused: list[SdeditError] = []
        for output in outputs:
            self.to.picture(job.shown, number, len(self.jobs))
            signals.check()
            started = time.monotonic()
            edit = replace(self.edit, seed=output.seed, count=1)
            try:
                made = maker.make(edit, picture, job.shown, job.format, self._watch(job, output, picture))
            except (NotFiniteError, BlockedBySafety) as error:
                refused.append(error)  # the next seed may fare better
                continue
            signals.check()
            self._save(job, output, made, started)
        if refused:
            raise refused[0]

    def _loaded(self) -> Maker:
        if self._maker is None:
            self.to.loading(f"the {self.request.model.name} model")
            self._maker = Maker(self.request, self._warn)
            facts = self._maker.facts
            self.events.emit("load", **facts)
            self.to.detail("{model} loaded in {seconds:.1f} s: {device}, {dtype}, {sampler}".format(**facts))
        return self._maker

    def _watch(
        self, job: Job, output: Output, picture: Picture
    ) -> Callable[[int, int, Callable[[], list[Image.Image]]], bool | None]:
        every = self.settings.save_every

        def on_step(done: int, steps: int, preview: Callable[[], list[Image.Image]]) -> bool | None:
            signals.check()
            facts: dict[str, Any] = {"input": job.source, "seed": output.seed, "step": done, "steps": steps}
            if every and done % every == 0:
                facts["preview"] = self._save_step(job, output, picture, preview()[0], done)
            self.events.emit("step", **facts)
            self.to.step(done, steps)
            return None

        return on_step

    def _save_step(self, job: Job, output: Output, picture: Picture, image: Image.Image, done: int) -> str:
        assert self.settings.steps_dir is not None
        # Inputs of one name from several folders share the steps folder.
        number = f"{job.index:0{len(str(len(self.jobs)))}d}-" if len(self.jobs) > 1 else ""
        wanted = self.settings.steps_dir / f"{number}{job.stem}-{output.seed}-step-{done:03d}.png"
        policy = "overwrite" if self.settings.on_exists == "overwrite" else "suffix"
        target = settle(wanted, policy, set())
        assert target is not None
        write_bytes(target, encode(image, picture.alpha, picture.icc, "png"), replace=policy == "overwrite")
        return str(target)

    def _save(self, job: Job, output: Output, made: Made, started: float) -> None:
        # A signal waits until what was written is told as well.
        with signals.held():
            if output.target is None:
                assert self.stdout is not None
                write_all(self.stdout, made.data)
            else:
                write_bytes(output.target, made.data, replace=self.settings.on_exists == "overwrite")
            seconds = time.monotonic() - started
            self.events.emit(
                "saved",
                input=job.source,
                output=output.shown,
                seed=output.seed,
                width=made.width,
                height=made.height,
                format=job.format,
                sha256=hashlib.sha256(made.data).hexdigest(),
                seconds=round(seconds, 3),
                **({} if made.nsfw is None else {"nsfw": made.nsfw}),
            )
            if made.nsfw:
                self._warn(f"{output.shown}: the safety checker flags it", job.source)
            self.to.note(f"{job.shown} -> {output.shown} (seed {output.seed}, {seconds:.1f} s)")

    def _warn(self, text: str, source: str | None = None) -> None:
        self.events.emit("warning", message=text, **({"input": source} if source else {}))
        self.to.warn(text)
