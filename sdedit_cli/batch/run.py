"""One run from its jobs to their outcome: settle names, load once, edit, write, report.

`sdedit run` is one request for all inputs; a batch has jobs of several requests, and a ledger.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import groupby
from typing import BinaryIO

from ..errors import AllFailed, SdeditError, SomeFailed, let_go
from ..options.files import LOSSLESS_FORMATS
from ..pictures.codec import open_picture
from ..pictures.masks import check_mask
from ..pictures.resize import size_of
from ..pictures.source import read_bytes
from .common import Common
from .events import Events
from .ledger import Ledger
from .making import Making
from .request import Request, RunOptions
from .settling import Settling
from .targets import Job
from .telling import Telling
from .worker import Host, Reporter


class Run:
    """The state of one run: the model once it is loaded, and the errors so far.

    `request` is what is asked for where nothing is left to do. `host` checks requests, loads their models, and
    advises.
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
        self.jobs = jobs
        self.options = options
        self.host = host
        self.to = to
        self.events = events
        self.stdout = stdout
        self.ledger = ledger or Ledger()
        self.errors: list[SdeditError] = []
        self._common = Common(request, jobs)
        self._tell = Telling(host, to, events, self._common, prompts=options.dry_run)

    def execute(self) -> None:
        """Makes every picture that can be made. Raises the error of a single input, SomeFailed or AllFailed."""
        self.start()
        self.work()
        self._judge()

    def start(self) -> None:
        """Tells programs what is to be done."""
        self.events.emit(
            "start",
            inputs=len({job.source for job in self.jobs}),
            pictures=_pictures(self.jobs),
            **self._common.facts(),
            dry_run=self.options.dry_run,
        )

    def work(self) -> None:
        """Makes every picture that can be made; `errors` has what went wrong."""
        try:
            self._work()
        finally:
            self._tell.errors.close()

    def _work(self) -> None:
        names = Settling(self.options, self._tell)
        ready = self._settled(names)
        names.clear(ready)
        if self.options.dry_run:
            for job in ready:
                with self._guarded(job):
                    self._describe(job)
            return
        making = Making(
            self.options,
            self._tell,
            self._failed,
            total=len(self.jobs),
            left=_pictures(ready),
            taken=names.taken,
            ledger=self.ledger,
            stdout=self.stdout,
        )
        try:
            for _, group in groupby(ready, key=lambda job: (self.host.group(job.request), job.size)):
                making.make(list(group))
        finally:
            making.close()

    def _settled(self, names: Settling) -> list[Job]:
        """The jobs with the pictures to make: what fails or is skipped for its name alone is out before any loading."""
        ready: list[Job] = []
        for job in self.jobs:
            with self._guarded(job):
                job = _of_like(job)
                job.request.edit.check_format(job.format)
                settled = names.settled(job)
                ready += [settled] if settled else []
        return ready

    @contextmanager
    def _guarded(self, job: Job) -> Generator[None, None, None]:
        """Within it, what goes wrong with one picture is told and kept for the end."""
        try:
            yield
        except self.options.bearable as error:
            self._failed(job, error)

    def _failed(self, job: Job, error: SdeditError) -> None:
        if len(self.jobs) > 1:  # a failure alone is raised at the end, and --debug shows where it came from
            let_go(error)
        self.errors.append(error)
        self.ledger.failed(job, error)
        self.events.failed(job.source, error, job.output)
        if len(self.jobs) > 1 or self.options.keep_going:  # else the error is the end of the run, and told there
            self._tell.errors.tell(error, job.shown, str(error))
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

    def _describe(self, job: Job) -> None:
        """Says what would be done for a job."""
        image = open_picture(read_bytes(job.source), job.shown, self.options.max_megapixels)
        check_mask(job.request.edit, job.source, self.options.max_megapixels)
        width, height = size_of(image.size, job.request.edit, job.shown, self.options.max_megapixels)
        self.host.check_asked(job.request)
        self._tell.check(job.request)
        self.host.check_choices(job.request)
        self._tell.announce(job.request)
        self._tell.size(job, (width, height))
        for target in job.targets:
            # A seed that would be drawn is none that programs could use.
            seed = {} if self.options.drawn_seed else {"seed": target.seed}
            self.events.emit("plan", input=job.source, output=target.shown, **seed, width=width, height=height)
            words = "a new seed" if self.options.drawn_seed else f"seed {target.seed}"
            self.to.note(f"would edit {job.shown} ({width} x {height}) -> {target.shown} ({words})")


def _of_like(job: Job) -> Job:
    """The job; without what the picture of --like says of its own file where the job's is of a format that has none."""
    like, edit = job.request.like, job.request.edit
    if like is None or not like.layer.values.get("lossless") or job.format in LOSSLESS_FORMATS:
        return job
    return replace(job, request=job.request.asking(edit.varied({"lossless": False})))


def _pictures(jobs: Sequence[Job]) -> int:
    return sum(len(job.targets) for job in jobs)
