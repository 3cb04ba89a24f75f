"""How many pictures a model takes at a time, and in which order they come, so that those of one shape meet."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from ..errors import PictureError
from ..pictures.peek import size_of_file
from .targets import Job

_MOST = 8
# Beyond so many pixels a picture keeps a machine busy by itself.
_ENOUGH = 512 * 512


def size_for(area: int, pictures: int, asked: int | None) -> int | None:
    """How many pictures of this area are edited at a time, of a batch of so many; None: each alone.

    It follows from the whole batch and never from what is left of it, so that a rerun gives the same bytes.
    """
    most = asked or max(1, min(_MOST, _ENOUGH // max(1, area)))
    size = min(most, 1 << max(0, pictures - 1).bit_length())
    return size if size > 1 else None


def gathered(
    jobs: Sequence[Job], group: Callable[[Job], object], pictures: int, asked: int | None, max_megapixels: float
) -> list[Job]:
    """The jobs with their sizes, those of one `group` and shape one after the other, otherwise in their order."""
    shapes = [_shape(job, max_megapixels) for job in jobs]
    sized = [replace(job, size=size_for(w * h, pictures, asked)) for job, (w, h) in zip(jobs, shapes, strict=True)]
    first: dict[object, int] = {}
    order = [
        (first.setdefault(key, number), first.setdefault((key, shape), number), number)
        for number, (key, shape) in enumerate(zip(map(group, jobs), shapes, strict=True))
    ]
    return [sized[number] for _, _, number in sorted(order)]


def _shape(job: Job, max_megapixels: float) -> tuple[int, int]:
    """The size that the picture of a job is edited at; (0, 0) where it cannot be read, which the run will say."""
    try:
        return job.request.edit.size_of(size_of_file(job.source, job.shown, max_megapixels))
    except PictureError:
        return (0, 0)
