"""Which pictures go in, and under which names they come out."""

from __future__ import annotations

import glob
import os
import re
import string
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from ..disk.checks import check_name, is_special
from ..errors import OutputError, UsageError, did_you_mean, shortened
from ..pictures.encode import check_format
from ..pictures.endings import FORMATS, SUFFIXES
from .names import fitting
from .request import Request

STDIO = "-"
_ENDINGS = ", ".join(FORMATS.values())
PLACEHOLDERS = ("stem", "name", "parent", "ext", "format", "seed", "index", "n")
_MAX_WIDTH = 999
_MAX_TEMPLATE = 4096  # the longest path of any system
_TELLS_PICTURES_APART = ("seed", "n")


@dataclass(frozen=True, slots=True)
class Target:
    """One picture to make: its seed, its file (None for stdout), and the name that was wanted before it was settled.

    `replaces` says that what is there may be replaced, whatever else holds of the run; `cell` is what tells a picture
    of a sweep from the others, which goes into the sheet where it has no file.
    """

    seed: int
    path: Path | None
    wanted: Path | None = None
    replaces: bool = False
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
    def stem(self) -> str:
        return stem_of(self.source)


def expand(patterns: Sequence[str]) -> list[str]:
    """The inputs that paths and glob patterns name, each once, in order. A pattern that matches nothing stays."""
    found: dict[str, None] = {}
    for pattern in patterns:
        # A file may have brackets in its name; what exists is never a pattern.
        is_pattern = glob.has_magic(pattern) and not os.path.lexists(pattern)
        matches = [p for p in glob.glob(os.path.expanduser(pattern), recursive=True) if os.path.isfile(p)]
        for path in (sorted(matches, key=natural) or [pattern]) if is_pattern else [pattern]:
            found.setdefault(path)
    if STDIO in found and len(found) > 1:
        raise UsageError("'-' (stdin) gives one picture and cannot be mixed with other inputs")
    return list(found)


def natural(path: str) -> list[tuple[int, str]]:
    """Orders img2 before img10."""
    return [(int(part), "") if part.isdecimal() else (0, part) for part in re.split(r"(\d+)", path)]


def stem_of(source: str) -> str:
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


def template_of(output: str, ext: str, inputs: int, label: str) -> str:
    """The template that a file, a folder or a template stands for, `ext` in folders. Raises UsageError with `label`."""
    if len(output) > _MAX_TEMPLATE:
        raise UsageError(f"{label} {shortened(output)}: has {len(output)} characters; expected at most {_MAX_TEMPLATE}")
    # Of what was typed, and not of the inputs' names: those are meant as they are.
    output = os.path.expanduser(output)
    if output.endswith(("/", os.sep)) or os.path.isdir(output):
        return literal(output.rstrip("/" + os.sep) or os.sep) + f"/{{stem}}.{ext}"
    if "{" in output:
        check_placeholders(output, label)
        return output
    if inputs > 1:
        raise UsageError(
            f"{label} {output} names one file for {inputs} inputs; give a folder (end it with '/'), "
            "or a template such as 'out/{stem}-{seed}.png'"
        )
    return literal(output)


def literal(path: str) -> str:
    """A path as a template that stands for it."""
    return path.replace("{", "{{").replace("}", "}}")


@lru_cache(maxsize=64)
def check_placeholders(template: str, label: str = "-o") -> None:
    """Raises UsageError for a template that nothing can be filled in."""
    try:
        found = [(name, spec or "") for _, name, spec, _ in string.Formatter().parse(template) if name is not None]
    except ValueError as problem:
        raise UsageError(
            f"{label} {template}: is no template ({problem}); write '{{{{' for a brace in a name"
        ) from None
    for name, spec in found:
        if name not in PLACEHOLDERS:
            known = ", ".join(f"{{{place}}}" for place in PLACEHOLDERS)
            hint = did_you_mean(name, PLACEHOLDERS)
            raise UsageError(f"{label} {shortened(template)}: has '{{{shortened(name)}}}'{hint}; it may have {known}")
        if "{" in spec or any(_is_too_wide(number) for number in re.findall(r"[0-9]+", spec)):
            raise UsageError(
                f"{label} {shortened(template)}: '{{{name}:{shortened(spec, 40)}}}' is too wide; "
                f"expected a width such as {{{name}:03}}"
            )


def _is_too_wide(digits: str) -> bool:
    return len(digits) > len(str(_MAX_WIDTH)) or int(digits) > _MAX_WIDTH


def split_template(template: str) -> tuple[str, str]:
    """A template before its ending, and the ending: '.png', or a placeholder for one."""
    for place in (".{ext}", ".{format}"):
        if template.endswith(place):
            return template.removesuffix(place), place
    return os.path.splitext(template)


@lru_cache(maxsize=64)
def format_of(template: str, format: str | None, label: str = "-o") -> str:
    """The format that a template's ending means. Raises UsageError for one that cannot be written."""
    suffix = split_template(template)[1].lower()
    if not suffix:
        raise UsageError(f"{label} {template}: has no ending; expected {_ENDINGS}, or a folder ending in '/'")
    if "{" in suffix:
        return _written(format or "png")
    named = SUFFIXES.get(suffix)
    if named is None:
        raise UsageError(f"{label} {template}: '{suffix}' cannot be written; expected {_ENDINGS}")
    if format and format != named:
        raise UsageError(f"{label} {template}: ends in {suffix}, and --format says {format}; change one of them")
    return _written(named)


def _written(format: str) -> str:
    check_format(format)
    return format


def targets(
    template: str, given: Path, index: int, seeds: Sequence[int], format: str, label: str = "-o"
) -> Iterator[Target]:
    """The pictures of the input `given` under the names that a template gives them. Raises UsageError with `label`."""
    stem = "stdin" if str(given) == STDIO else given.stem
    named = names_of(template, (str(given.parent), given.name, stem), index, seeds, format, label)
    return (Target(seed, Path(name)) for seed, name in zip(seeds, named, strict=True))


def names_of(
    template: str, parts: tuple[str, str, str], index: int, seeds: Sequence[int], format: str, label: str = "-o"
) -> Iterator[str]:
    """As `targets`: the names alone, of an input by its folder, its name and its stem."""
    if len(seeds) > 1 and not _has_placeholder(template, _TELLS_PICTURES_APART):
        root, ending = split_template(template)
        template = f"{root}-{{n}}{ending}"
    parent, name, stem = parts
    for n, seed in enumerate(seeds, 1):
        facts: Mapping[str, object] = {
            "name": name,
            "parent": parent,
            "ext": FORMATS.get(format, format).removeprefix("."),  # animations have more
            "format": format,
            "seed": seed,
            "index": index,
            "n": n,
        }
        try:
            named = fitting(stem, lambda stem, facts=facts: template.format_map({"stem": stem, **facts}))
        except (ValueError, TypeError, AttributeError, IndexError, KeyError, OverflowError) as problem:
            raise UsageError(f"{label} {template}: is no template ({problem})") from None
        if "\0" in named:
            raise UsageError(f"{label} {template}: gives a name with a NUL character, which no file can have")
        yield named


def _has_placeholder(template: str, names: Sequence[str]) -> bool:
    return any(name in names for _, name, _, _ in string.Formatter().parse(template))


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


def settle(target: Path, on_exists: str, taken: set[Path]) -> Path | None:
    """The path to write for `target` under a policy; None to skip it. Raises OutputError when it exists and must not.

    `taken` are the paths promised to earlier pictures of this run.
    """
    check_name(target)
    if target.is_dir():
        raise OutputError(f"{target}: is a folder; end it with '/' to write into it")
    if is_special(target) or not (os.path.lexists(target) or target in taken) or on_exists == "overwrite":
        return target
    if on_exists == "skip":
        return None
    if on_exists == "fail":
        raise OutputError(f"{target}: exists already; choose another -o, or --on-exists overwrite, skip or suffix")
    numbered = (
        target.with_name(fitting(target.stem, lambda stem, n=number: f"{stem}-{n}{target.suffix}"))
        for number in range(2, 1_000_000)
    )
    free = next(path for path in numbered if not os.path.lexists(path) and path not in taken)
    check_name(free)
    return free
