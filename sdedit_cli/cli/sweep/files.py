"""Where the files of a sweep go: a sheet for each input, and the single pictures in a folder."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ...batch.names import fitting
from ...batch.targets import STDIO, Job, Target, folded, refuse_clashes, settle, targets
from ...batch.templates import format_of, template_of
from ...disk.checks import check_folder
from ...errors import UsageError
from ...pictures.endings import FORMATS

if TYPE_CHECKING:
    from ...batch.request import Request
    from ...batch.sweep import Cell
    from ...batch.swept import Swept
    from .options import Wanted


def sheets_of(
    sources: Sequence[str], wanted: Wanted, request: Request, taken: set[Path]
) -> tuple[dict[str, Path], dict[str, Path]]:
    """The sheet of each input that gets one, which is `taken` then, and those that are there and stay. `request` is
    one of the pictures. Raises UsageError, OutputError."""
    if STDIO in sources:
        raise UsageError("a sweep reads its picture again and again, which stdin gives once; save it to a file")
    output = wanted.output
    template = template_of(output, "sweep.png", len(sources), "-o") if output else "{parent}/{stem}.sweep.png"
    if format_of(template, None) != "png":
        raise UsageError(f"-o {output}: the sheet of a sweep is a PNG; expected a name that ends in .png")
    seed = request.edit.seed or 0
    jobs = [
        Job(request, source, index, tuple(targets(template, Path(source), index, [seed], "png")), "png")
        for index, source in enumerate(sources, 1)
    ]
    refuse_clashes(jobs, "-o" if output is None else f"-o {output}")
    found: dict[str, Path] = {}
    skipped: dict[str, Path] = {}
    for job in jobs:
        asked = job.targets[0].path
        assert asked is not None
        path = settle(asked, wanted.on_exists, taken)
        if path is None:
            skipped[job.source] = asked
            continue
        taken.add(path)
        found[job.source] = path
    return found, skipped


def check_places(sources: Sequence[str], sheets: Iterable[Path], page: Path | None, folder: str | None) -> None:
    """Raises OutputError where a file of the sweep cannot be written, UsageError where a sheet or the page would take
    the place of an input."""
    inputs = _real_paths(sources)
    for flag, path in [*(("-o", sheet) for sheet in sheets), *([("--sweep-page", page)] if page else [])]:
        _check_spares(inputs, path, flag, "file")
        check_folder(path.parent, flag)
    if folder:
        check_folder(Path(os.path.expanduser(folder)), "--sweep-dir")


def _check_spares(inputs: Collection[str], path: Path, flag: str, other: str) -> None:
    """Raises UsageError where what is written there would take the place of an input."""
    if _real(path) in inputs:
        raise UsageError(f"{flag}: {path} is one of the inputs, which a sweep does not replace; name another {other}")


def _real_paths(sources: Iterable[str]) -> frozenset[str]:
    return frozenset(_real(source) for source in sources)


def _real(path: str | Path) -> str:
    # What is written under a link's name takes the place of what it leads to.
    return folded(os.path.realpath(path))


def jobs_of(
    inputs: Mapping[str, Swept],
    sheets: Mapping[str, Path],
    cells: Sequence[Cell],
    requests: Mapping[int, Request],
    wanted: Wanted,
) -> list[tuple[Job, tuple[Swept, int]]]:
    """A job for each picture of each input, with the number of its cell. Raises UsageError."""
    made: list[tuple[Job, tuple[Swept, int]]] = []
    format = wanted.format or "png"
    spared = _real_paths(sheets) if wanted.on_exists == "overwrite" else ()
    for source, swept in inputs.items():
        for number, request in requests.items():
            cell = cells[number]
            path = None
            if wanted.folder:
                variant = f"-{cell.variant}" if cell.variant else ""
                name = fitting(Path(source).stem, lambda stem, v=variant: f"{stem}{v}{FORMATS[format]}")
                path = Path(os.path.expanduser(wanted.folder)) / name
                _check_spares(spared, path, "--sweep-dir", "folder")
            target = Target(request.edit.seed or 0, path, cell=f"{sheets[source]}: {cell.label}")
            made.append((Job(request, source, len(made) + 1, (target,), format), (swept, number)))
    if wanted.folder:
        refuse_clashes([job for job, _ in made], "--sweep-dir")
    return made
