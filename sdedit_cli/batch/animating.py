"""Where the animations of a run go."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..disk.checks import check_folder
from ..errors import UsageError
from ..pictures.animation import format_of
from .request import Animating
from .targets import Job, folded, settle, targets
from .templates import split_template, template_of

_LABEL = "--animate"


def animating(jobs: Sequence[Job], output: str, on_exists: str, *, full: bool) -> Animating:
    """The animations that `--animate` names. Raises UsageError, and OutputError for what cannot be written there."""
    if any(job.request.edit.frames == "all" for job in jobs):
        raise UsageError(f"{_LABEL} and --frames all exclude each other: one animation shows how one picture forms")
    template = template_of(output, "webp", len(jobs), _LABEL)
    suffix = split_template(template)[1]
    format = "webp" if "{" in suffix else format_of(suffix, f"{_LABEL} {output}")
    paths: dict[tuple[int, int], Path] = {}
    names = {folded(target.path) for job in jobs for target in job.targets if target.path}
    taken: set[Path] = set()
    for job in jobs:
        seeds = [target.seed for target in job.targets]
        for target in targets(template, Path(job.source), job.index, seeds, format, _LABEL):
            assert target.path is not None
            if folded(target.path) in names:
                raise UsageError(f"{_LABEL}: {target.path} is the name of another output; give each its own")
            # What exists is left alone, and the picture is made all the same.
            path = settle(target.path, "suffix" if on_exists == "skip" else on_exists, taken, _LABEL)
            assert path is not None
            check_folder(path.parent, _LABEL)
            taken.add(path)
            names.add(folded(path))
            paths[job.index, target.seed] = path
    return Animating(paths, format, full, replace=on_exists == "overwrite")
