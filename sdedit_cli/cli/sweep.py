"""`sdedit run --sweep`: every combination of some values as one sheet, and as a page."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import AllFailed, PictureError, SdeditError, SomeFailed, UsageError, first_line
from ..options import Edit, Layer, fields
from ..options.layers import defaults
from ..pictures.endings import FORMATS
from ..presets import Preset, load_preset, user_config
from .seeds import new_seed

if TYPE_CHECKING:
    from PIL import Image

    from ..batch.events import Events
    from ..batch.request import Request
    from ..batch.sweep import Cell, Sweep
    from ..batch.swept import Swept
    from ..batch.targets import Job
    from .layering import Layering
    from .realism import Real
    from .render import Reporter
    from .sweep_options import Wanted

# What the header of a sheet says in any case, where it is the same everywhere.
_ALWAYS = ("strength", "steps", "cfg_scale", "seed", "sampler")
_TEXTS = ("prompt", "negative_prompt")
_MOST_LINES = 5


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
    from ..batch.sheet import side_of
    from ..batch.sweep import sweep_of
    from .inputs import sources_of
    from .replay import check_sampler

    sweep = sweep_of(wanted.texts, wanted.limit)
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
    requests, problems = _requests(cells, layers, drawn=None if wanted.dry_run else new_seed())
    sources = sources_of(inputs, next(iter(requests.values())).edit.prompt, wanted.output, to)
    _Work(sweep, cells, requests, problems, wanted, layers, to, events, side, watched).of(sources)


def _requests(
    cells: Sequence[Cell], layers: Layering, drawn: int | None
) -> tuple[dict[int, Request], dict[int, SdeditError]]:
    """The request of each cell, or what speaks against it; a seed that nobody names is the same for all. Raises the
    first problem where no cell can be meant."""
    presets = _Presets()

    def seeded(edit: Edit) -> Edit:
        if edit.count > 1:
            raise UsageError(f"--count {edit.count}: a cell of a sweep is one picture; vary --sweep seed=1,2,3 instead")
        return edit if edit.seed is not None else edit.varied({"seed": drawn})

    requests: dict[int, Request] = {}
    problems: dict[int, SdeditError] = {}
    for number, cell in enumerate(cells):
        values = dict(cell.values)
        preset = values.pop("preset", None)
        between = [presets.layer(preset)] if preset is not None else []
        try:
            requests[number] = layers.request(between, [Layer("--sweep", values)], seeded)
        except SdeditError as problem:
            problems[number] = problem
    if not requests:
        raise problems[0]
    return requests, problems


class _Presets:
    """Presets by their names, each read once."""

    def __init__(self) -> None:
        self._folders = user_config(os.environ).preset_folders
        self._known: dict[str, Preset] = {}

    def layer(self, name: str) -> Layer:
        """What a preset sets. Raises PresetError."""
        if name not in self._known:
            self._known[name] = load_preset(name, self._folders)
        return self._known[name].layer


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
        from ..batch.targets import settle
        from ..disk.checks import check_folder
        from ..pictures.codec import pixel_limit

        taken: set[Path] = set()
        asked = Path(os.path.expanduser(self.wanted.page)) if self.wanted.page else None
        page = asked and settle(asked, self._policy, taken, "--sweep-page")
        sheets, skipped = self._sheets(sources, taken)
        for path in (*sheets.values(), *([page] if page else [])):
            check_folder(path.parent)
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
        from ..batch.telling import Errors

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

    def _sheets(self, sources: Sequence[str], taken: set[Path]) -> tuple[dict[str, Path], dict[str, Path]]:
        """The sheet of each input that gets one, and those that are there and stay. Raises UsageError, OutputError."""
        from ..batch.targets import STDIO, Job, refuse_clashes, settle, targets
        from ..batch.templates import format_of, template_of

        if STDIO in sources:
            raise UsageError("a sweep reads its picture again and again, which stdin gives once; save it to a file")
        output = self.wanted.output
        template = template_of(output, "sweep.png", len(sources), "-o") if output else "{parent}/{stem}.sweep.png"
        if format_of(template, None) != "png":
            raise UsageError(
                f"-o {self.wanted.output}: the sheet of a sweep is a PNG; expected a name that ends in .png"
            )
        request = next(iter(self.requests.values()))
        seed = request.edit.seed or 0
        jobs = [
            Job(request, source, index, tuple(targets(template, Path(source), index, [seed], "png")), "png")
            for index, source in enumerate(sources, 1)
        ]
        refuse_clashes(jobs, "-o" if self.wanted.output is None else f"-o {self.wanted.output}")
        found: dict[str, Path] = {}
        skipped: dict[str, Path] = {}
        for job in jobs:
            wanted = job.targets[0].path
            assert wanted is not None
            path = settle(wanted, self.wanted.on_exists, taken)
            if path is None:
                skipped[job.source] = wanted
                continue
            taken.add(path)
            found[job.source] = path
        return found, skipped

    def _inputs(self, sheets: Mapping[str, Path], limit: float) -> tuple[dict[str, Swept], dict[str, SdeditError]]:
        """The inputs that can be read, and what speaks against the others. Raises PictureError for a single one."""
        from ..batch.sheet import shown_at
        from ..batch.swept import Swept, as_seen, looked_at
        from ..pictures.codec import read_picture

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
        from ..batch.sweep_page import page_side, uri_of

        return uri_of(image, page_side(len(self.cells)))

    def _warn(self, text: str) -> None:
        from ..batch.telling import warn

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
        from ..batch.request import RunOptions
        from ..batch.run import Run
        from ..batch.shapes import gathered
        from ..batch.swept import Collecting
        from .host import Models
        from .realism import measure

        jobs = {job.index: (job, of) for job, of in self._jobs(inputs, sheets)}
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

    def _jobs(self, inputs: Mapping[str, Swept], sheets: Mapping[str, Path]) -> Iterator[tuple[Job, tuple[Swept, int]]]:
        from ..batch.names import fitting
        from ..batch.targets import Job, Target, refuse_clashes

        made: list[tuple[Job, tuple[Swept, int]]] = []
        format = self.wanted.format or "png"
        for source, swept in inputs.items():
            for number, request in self.requests.items():
                cell = self.cells[number]
                path = None
                if self.wanted.folder:
                    variant = f"-{cell.variant}" if cell.variant else ""
                    name = fitting(Path(source).stem, lambda stem, v=variant: f"{stem}{v}{FORMATS[format]}")
                    path = Path(os.path.expanduser(self.wanted.folder)) / name
                target = Target(request.edit.seed or 0, path, cell=f"{sheets[source]}: {cell.label}")
                made.append((Job(request, source, len(made) + 1, (target,), format), (swept, number)))
        if self.wanted.folder:
            refuse_clashes([job for job, _ in made], "--sweep-dir")
        return iter(made)

    def _write(self, inputs: Mapping[str, Swept], sheets: Mapping[str, Path], page: Path | None) -> None:
        """Writes the sheets of the inputs of which a picture was made, and the page of all."""
        import hashlib

        from .. import __version__
        from ..batch.sheet import Sheet, drawn, png_of
        from ..batch.sheet_plot import plotted
        from ..batch.sweep_page import Part, pieces
        from ..disk.whole import write_bytes

        replace = self.wanted.on_exists == "overwrite"
        common = _common(self.requests.values())
        recorded = any(request.edit.metadata for request in self.requests.values())
        lines = _lines(common)
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
        from .again import as_command

        request = self.requests.get(number)
        if request is None:
            return ""
        edit = request.edit
        own = self.layers.models.get(edit.model, (None, Layer("", {})))[1].values
        said = {*own, *_ALWAYS, *self.cells[number].values, *self.layers.said.values}
        usual = defaults()
        named = [f.name for f in fields() if f.name in said or getattr(edit, f.name) != usual[f.name]]
        values = {name: value for name in named if (value := getattr(edit, name)) is not None}
        return as_command(Layer(source, values), source)


def _common(requests: Iterable[Request]) -> dict[str, Any]:
    """What all pictures record alike of their edits, and the name of their model where it is one."""
    saved = [{**request.edit.saved(), "model": request.model.name} for request in requests]
    return {key: value for key, value in saved[0].items() if all(one.get(key) == value for one in saved)}


def _lines(common: Mapping[str, Any]) -> list[str]:
    """What the header of a sheet says of all of its pictures."""
    usual = defaults()
    texts = [f"{key.replace('_', ' ')}: {common[key]}" for key in _TEXTS if common.get(key)]
    pairs = [
        f"{key.replace('_', '-')} {_shown(common[key])}"
        for key in ("model", *(field.name for field in fields()))
        if key in common and key not in _TEXTS and (key in ("model", *_ALWAYS) or common[key] != usual.get(key))
    ]
    return [*texts, *textwrap.wrap(", ".join(dict.fromkeys(pairs)), 60)][:_MOST_LINES]


def _shown(value: Any) -> str:
    return f"{value:g}" if type(value) is float else str(value)
