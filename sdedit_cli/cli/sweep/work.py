"""Every picture of a sweep made, and drawn on one sheet an input, and on a page."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import AllFailed, PictureError, SdeditError, SomeFailed, UsageError, first_line
from ..seeds import new_seed
from .files import check_places, jobs_of, sheets_of
from .requests import requests_of
from .words import command_of, header, in_common

if TYPE_CHECKING:
    from PIL import Image

    from ...batch.events import Events
    from ...batch.request import Request
    from ...batch.sweep import Cell, Sweep
    from ...batch.swept import Swept
    from ..layering import Layering
    from ..render import Reporter
    from .options import Wanted
    from .realism import Real


def carry_out(
    inputs: Sequence[str],
    wanted: Wanted,
    layers: Layering,
    given: Mapping[str, Any],
    to: Reporter,
    events: Events,
    watched: Callable[[], bool],
) -> None:
    """Makes the pictures of a sweep of each input, and its sheet; whether they are shown as they form, `watched` says
    when it begins.

    Raises SomeFailed or AllFailed for cells that could not be made, which the sheet marks, and what speaks against all
    of it.
    """
    from ...batch.sheet import side_of
    from ...batch.sweep import sweep_of
    from ..inputs import sources_of
    from ..replay import check_sampler

    sweep = sweep_of(wanted.texts, wanted.most)
    said_twice = next((axis for axis in sweep.axes if given.get(axis.name) not in (None, ())), None)
    if said_twice:
        flag = f"--{said_twice.key}"
        raise UsageError(f"{flag} is set, and --sweep varies it; leave it to one of them")
    for sampler in next((axis.values for axis in sweep.axes if axis.name == "sampler"), ()):
        check_sampler(sampler, None)
    if wanted.realism and sweep.strengths is None:
        raise UsageError("--sweep-realism is measured where the strength varies; add --sweep strength=0.3,0.5,0.7")
    side = side_of(sweep)
    cells = list(sweep.cells())
    requests, problems = requests_of(cells, layers, drawn=None if wanted.dry_run else new_seed())
    sources = sources_of(inputs, next(iter(requests.values())).edit.prompt, wanted.output, to)
    _Work(sweep, cells, requests, problems, wanted, layers, to, events, side, watched).of(sources)


@dataclass(frozen=True)
class _Work:
    """One sweep over some inputs."""

    sweep: Sweep
    cells: Sequence[Cell]
    requests: Mapping[int, Request]
    problems: Mapping[int, SdeditError]
    wanted: Wanted
    layers: Layering
    to: Reporter
    events: Events
    side: int
    watched: Callable[[], bool]

    def of(self, sources: Sequence[str]) -> None:
        """See `carry_out`."""
        from ...batch.targets import settle
        from ...pictures.codec import pixel_limit

        taken: set[Path] = set()
        asked = Path(os.path.expanduser(self.wanted.page)) if self.wanted.page else None
        page = asked and settle(asked, self._policy, taken, "--sweep-page")
        sheets, skipped = sheets_of(sources, self.wanted, next(iter(self.requests.values())), taken)
        check_places(sources, sheets.values(), page, self.wanted.folder)
        limit = pixel_limit(os.environ)
        inputs, unread = self._inputs(sheets, limit)
        real = self._real(limit)
        failed = [*unread.values(), *(problem for problem in self.problems.values() for _ in inputs)]
        failed += self._make(inputs, sheets, limit, real, lambda: self._tell(inputs, unread, skipped))
        if not self.wanted.dry_run:
            self._write(inputs, sheets, page)
        total = len(self.cells) * len(sheets)
        made = sum(len(swept.shown) for swept in inputs.values()) + self.events.planned
        if failed and made == 0:
            raise AllFailed(f"all {total} pictures of the sweep failed; nothing was written")
        if failed:
            rest = "the others would be made" if self.wanted.dry_run else "their places are marked"
            raise SomeFailed(f"{total - made} of {total} pictures of the sweep failed; {rest}")

    @property
    def _policy(self) -> str:
        return "suffix" if self.wanted.on_exists == "skip" else self.wanted.on_exists

    def _tell(
        self, inputs: Mapping[str, Swept], unread: Mapping[str, SdeditError], skipped: Mapping[str, Path]
    ) -> None:
        """Says which sheets are left as they are, which inputs cannot be read, and which cells cannot be meant, equal
        reasons once."""
        from ...batch.telling import Errors

        for source, path in skipped.items():
            self.events.emit("skipped", input=source, output=str(path))
            self.to.note(f"{path} exists already: skipped")
        for source, problem in unread.items():
            self.to.error(str(problem))
            self.events.failed(source, problem)
        errors = Errors(self.to)
        for number, problem in self.problems.items():
            label = self.cells[number].label
            errors.tell(UsageError(f"{label}: {problem}"), label, str(problem))
            for source, swept in inputs.items():
                swept.problems[number] = first_line(problem)
                self.events.failed(source, problem, label)
        errors.close()

    def _inputs(self, sheets: Mapping[str, Path], limit: float) -> tuple[dict[str, Swept], dict[str, SdeditError]]:
        """The inputs that can be read, and what speaks against the others. Raises PictureError for a single one."""
        from ...batch.sheet import shown_at
        from ...batch.swept import Swept, as_seen, looked_at
        from ...pictures.codec import read_picture

        found: dict[str, Swept] = {}
        unread: dict[str, SdeditError] = {}
        for source in sheets:
            try:
                picture = read_picture(source, limit)
            except PictureError as problem:
                if len(sheets) == 1:
                    raise
                unread[source] = problem
                continue
            seen = as_seen(picture.rgb, picture.alpha, picture.icc)
            title = Path(source).name
            small = None if self.sweep.strengths is None else looked_at(seen)
            found[source] = Swept(title, self.cells, shown_at(seen, self.side), self._uri_of(seen), small)
        return found, unread

    def _uri_of(self, image: Image.Image) -> str:
        if self.wanted.page is None:
            return ""
        from ...batch.sweep_page import page_side, uri_of

        return uri_of(image, page_side(len(self.cells)))

    def _warn(self, text: str) -> None:
        from ...batch.telling import warn

        warn(text, self.to, self.events)

    def _real(self, limit: float) -> Real | None:
        """The pictures that the results are compared with. Raises UsageError and PictureError."""
        if self.wanted.realism is None:
            return None
        from .realism import real_pictures

        return real_pictures(os.path.expanduser(self.wanted.realism), limit, self._warn)

    def _make(
        self,
        inputs: Mapping[str, Swept],
        sheets: Mapping[str, Path],
        limit: float,
        real: Real | None,
        tell: Callable[[], None],
    ) -> list[SdeditError]:
        """Has the pictures made as a batch makes them, once the event `start` is out and `tell` was called; what went
        wrong."""
        from ...batch.request import RunOptions
        from ...batch.run import Run
        from ...batch.shapes import gathered
        from ...batch.swept import Collecting
        from ..host import Models
        from .realism import measure

        wanted = jobs_of(inputs, sheets, self.cells, self.requests, self.wanted)
        jobs = {job.index: (job, of) for job, of in wanted}
        host = Models(self.to.note, complete=self.wanted.dry_run)
        options = RunOptions(
            self.wanted.on_exists,
            dry_run=self.wanted.dry_run,
            max_megapixels=limit,
            drawn_seed=any(request.edit.seed is None for request in self.requests.values()),
            keep_going=True,
            preview=not self.wanted.dry_run and self.watched(),
        )
        planned = gathered(
            [job for job, _ in jobs.values()], lambda job: host.group(job.request), len(jobs), None, limit
        )
        books = Collecting({index: of for index, (_, of) in jobs.items()}, self.side, self._uri_of)
        plain = next(iter(self.requests.values()))
        run = Run(plain, planned, options, host, self.to, self.events, None, books)
        run.start()
        tell()
        run.work()
        if host.warm is not None:
            measure(inputs.values(), host.warm, real, self._warn)
        return run.errors

    def _write(self, inputs: Mapping[str, Swept], sheets: Mapping[str, Path], page: Path | None) -> None:
        """Writes the sheets of the inputs of which a picture was made, and the page of all."""
        import hashlib

        from ... import __version__
        from ...batch.sheet import Sheet, drawn, png_of
        from ...batch.sheet_plot import plotted
        from ...batch.sweep_page import Part, pieces
        from ...disk.whole import write_bytes

        replace = self.wanted.on_exists == "overwrite"
        common = in_common(self.requests.values())
        recorded = any(request.edit.metadata for request in self.requests.values())
        lines = header(common)
        parts: list[Part] = []
        for source, swept in inputs.items():
            if not swept.shown:
                continue
            points = swept.lines(self.sweep)
            plot = plotted(points, swept.compared_with, swept.features) if points else None
            image = drawn(Sheet(self.sweep, swept.tiles(), swept.input, swept.title, lines, plot))
            data = png_of(image, swept.facts(self.sweep, common, __version__) if recorded else "")
            path = sheets[source]
            write_bytes(path, data, replace=replace)
            facts = {"width": image.width, "height": image.height, "sha256": hashlib.sha256(data).hexdigest()}
            self.events.emit("sheet", input=source, output=str(path), pictures=len(swept.shown), **facts)
            self.to.note(f"{source} -> {path} ({len(swept.shown)} of {len(self.cells)} pictures)")
            commands = [self._command(source, number) for number in range(len(self.cells))] if page else []
            parts.append(Part(swept, lines, commands, plot))
        if page and parts:
            write_bytes(page, b"".join(pieces(self.sweep, parts)), replace=replace)
            self.events.emit("page", output=str(page))
            self.to.note(f"the page is {page}")

    def _command(self, source: str, number: int) -> str:
        """The command line that makes one picture by itself; '' where none can be made."""
        request = self.requests.get(number)
        return command_of(request, self.cells[number], source, self.layers) if request else ""
