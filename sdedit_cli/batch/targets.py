"""Which pictures go in, and under which names they come out."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path

from ..disk.checks import check_name, is_special
from ..disk.stood import Stood
from ..errors import OutputError, UsageError
from ..options import Edit, kept, with_hashes
from ..pictures.encode import check_format
from ..pictures.endings import FORMATS
from .names import fitting
from .patterns import is_pattern
from .request import Request
from .templates import format_of, names_of, template_of

STDIO = "-"
_PATHS = attrgetter("path")


@dataclass(frozen=True, slots=True)
class Target:
    """One picture to make: its seed, its file (None for stdout), and the name that was wanted before it was settled.

    `replaces` says that what is there may be replaced, whatever else holds of the run, but where it is known what
    `stood` there nothing that came since; `cell` is what tells a picture of a sweep from the others, which goes into
    the sheet where it has no file.
    """

    seed: int
    path: Path | None
    wanted: Path | None = None
    replaces: bool = False
    stood: Stood | None = None
    cell: str = ""

    @property
    def shown(self) -> str:
        return (self.cell or "stdout") if self.path is None else str(self.path)


@dataclass(frozen=True, slots=True)
class Job:
    """One input, what is asked for, and the pictures to make of it."""

    request: Request
    source: str
    index: int
    targets: tuple[Target, ...]
    format: str
    size: int | None = None  # how many pictures it is edited among; None: alone

    @property
    def shown(self) -> str:
        """The name of the input, for people."""
        return "stdin" if self.source == STDIO else self.source

    @property
    def output(self) -> str:
        """The name of its file; '' where it has several, or none."""
        return str(self.targets[0].path or "") if len(self.targets) == 1 else ""

    @property
    def stem(self) -> str:
        return _stem_of(self.source)


def expand(patterns: Sequence[str]) -> list[str]:
    """The inputs that paths and glob patterns name, each once, in order. A pattern that matches nothing stays."""
    found: dict[str, None] = {}
    for pattern in patterns:
        matches: list[str] = []
        if is_pattern(pattern):
            matches = [p for p in glob.glob(os.path.expanduser(pattern), recursive=True) if os.path.isfile(p)]
        found |= dict.fromkeys(sorted(matches, key=natural) or [pattern])
    if STDIO in found and len(found) > 1:
        raise UsageError("'-' (stdin) gives one picture and cannot be mixed with other inputs")
    return list(found)


def natural(path: str) -> list[tuple[int, str]]:
    """Orders img2 before img10."""
    return [(int(part), "") if part.isdecimal() else (0, part) for part in re.split(r"(\d+)", path)]


def _stem_of(source: str) -> str:
    return "stdin" if source == STDIO else Path(source).stem


def plan(
    request: Request, sources: Sequence[str], seeds: Sequence[int], output: str | None, format: str | None
) -> list[Job]:
    """A job for each source. Raises UsageError when the names cannot be told apart, or fit no picture format."""
    several = len(sources) > 1 or len(seeds) > 1
    if output is None and STDIO in sources:
        raise UsageError(
            "a picture from stdin has no name to go by; say where the result goes with -o (-o - for stdout)"
        )
    if output == STDIO:
        if several:
            raise UsageError(f"-o - takes one picture, and this run makes {len(sources) * len(seeds)}")
        check_format(format or "png")
        return [Job(request, sources[0], 1, (Target(seeds[0], None),), format or "png")]
    template = _template(output, "{ext}" if format else "png", len(sources))
    chosen = format_of(template, format)
    jobs = [
        Job(request, source, index, tuple(targets(template, Path(source), index, seeds, chosen)), chosen)
        for index, source in enumerate(sources, 1)
    ]
    refuse_clashes(jobs, "-o" if output is None else f"-o {output}")
    return jobs


def _template(output: str | None, ext: str, inputs: int) -> str:
    return f"{{parent}}/{{stem}}.edited.{ext}" if output is None else template_of(output, ext, inputs, "-o")


def targets(
    template: str, given: Path, index: int, seeds: Sequence[int], format: str, label: str = "-o"
) -> Iterator[Target]:
    """The pictures of the input `given` under the names that a template gives them. Raises UsageError with `label`."""
    parts = (str(given.parent), given.name, _stem_of(str(given)))
    named = names_of(template, parts, index, seeds, format, label)
    return (Target(seed, Path(name)) for seed, name in zip(seeds, named, strict=True))


def folded(path: str | Path) -> str:
    """Equal for names that are one file on most desktops, where they differ in case alone."""
    return os.path.normpath(path).casefold()


def refuse_clashes(jobs: Sequence[Job], label: str) -> None:
    """Raises UsageError for two pictures that would get one name, with a template that tells them apart."""
    owners: dict[str, str] = {}
    for job in jobs:
        for target in job.targets:
            key = folded(target.shown)
            if key in owners:
                raise UsageError(
                    f"{owners[key]} and {job.shown} would both be written to {target.shown}; "
                    f"use a template that tells them apart, such as {label.split()[0]} '{_apart(jobs)}'"
                    if owners[key] != job.shown
                    else f"{label}: gives every picture of {job.shown} the same name; add {{n}} or {{seed}}"
                )
            owners[key] = job.shown


def inputs_of(jobs: Iterable[Job]) -> set[str]:
    """Where the inputs of jobs really are."""
    return {os.path.realpath(job.source) for job in jobs if job.source != STDIO}


def read_by(jobs: Sequence[Job]) -> set[str]:
    """Where the files really are that jobs read: their inputs, and what their options name."""
    found = inputs_of(jobs)

    def note(path: str) -> str:
        found.add(os.path.realpath(os.path.expanduser(path)))
        return path

    for edit in {id(job.request.settings): job.request.settings for job in jobs}.values():
        with_hashes(kept(edit, _PATHS), Edit, note)
    return found


def is_input_of_another(job: Job, path: Path | None, inputs: Collection[str]) -> bool:
    """Whether what is written to a path for a job would replace one of the inputs that is another's."""
    real = None if path is None else os.path.realpath(path)
    return real in inputs and real != os.path.realpath(job.source)


def refuse_replaced(jobs: Sequence[Job], label: str) -> None:
    """Raises UsageError for a picture that would take the place of an input of another job, edited yet or not."""
    inputs = inputs_of(jobs)
    for job in jobs:
        for target in job.targets:
            if is_input_of_another(job, target.path, inputs):
                raise UsageError(
                    f"{label}: the picture of {job.shown} would replace {target.path}, which is an input too; "
                    "write into another folder"
                )


def _apart(jobs: Sequence[Job]) -> str:
    """A template under which every picture of these jobs has a name of its own."""
    outside = any(os.path.isabs(job.source) or ".." in Path(job.source).parts for job in jobs)
    roots = ("{name}", "{index:03}-{stem}") if outside else ("{parent}/{stem}", "{name}", "{index:03}-{stem}")
    templates = [f"out/{root}{FORMATS[jobs[0].format]}" for root in roots]
    return next((template for template in templates[:-1] if _tells_apart(template, jobs)), templates[-1])


def _tells_apart(template: str, jobs: Sequence[Job]) -> bool:
    names = [
        folded(target.shown)
        for job in jobs
        for target in targets(template, Path(job.source), job.index, [one.seed for one in job.targets], job.format)
    ]
    return len(set(names)) == len(names)


def settle(target: Path, on_exists: str, taken: set[Path], flag: str = "-o") -> Path | None:
    """The path to write for `target` under a policy; None to skip it. Raises OutputError when it exists and must not.

    `taken` are the paths promised to earlier pictures of this run; `flag` is the option that names such files.
    """
    check_name(target)
    if target.is_dir():
        raise OutputError(f"{target}: is a folder; end it with '/' to write into it")
    if is_special(target) or not (os.path.lexists(target) or target in taken) or on_exists == "overwrite":
        return target
    if on_exists == "skip":
        return None
    if on_exists == "fail":
        raise OutputError(f"{target}: exists already; choose another {flag}, or --on-exists overwrite, skip or suffix")
    numbered = (
        target.with_name(fitting(target.stem, lambda stem, n=number: f"{stem}-{n}{target.suffix}"))
        for number in range(2, 1_000_000)
    )
    free = next(path for path in numbered if not os.path.lexists(path) and path not in taken)
    check_name(free)
    return free
