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
    jobs: Sequence[Job],
    group: Callable[[Job], tuple[object, ...]],
    pictures: int,
    asked: int | None,
    max_megapixels: float,
) -> list[Job]:
    """The jobs with their sizes, otherwise in their order: those whose `group` begins alike one after the other, among
    them those of one group, and among these those of one shape, the longest first where several are edited at a time:
    at the end few places of the batch are empty then."""
    first: dict[tuple[object, ...], int] = {}
    found: list[tuple[list[int], Job]] = []
    for number, job in enumerate(jobs):
        shape = _shape(job, max_megapixels)
        key = (*group(job), shape)
        order = [first.setdefault(key[:depth], number) for depth in range(1, len(key) + 1)]
        size = _size(job, shape, pictures, asked)
        steps = job.request.edit.steps_run() if size else 0
        found.append(([*order, -steps, number], replace(job, size=size)))
    return [job for _, job in sorted(found, key=lambda item: item[0])]


def company_of(job: Job, pictures: int, asked: int | None, max_megapixels: float) -> int:
    """How many are edited at a time where a job is, of a batch of so many pictures."""
    return _size(job, _shape(job, max_megapixels), pictures, asked) or 1


def _size(job: Job, shape: tuple[int, int], pictures: int, asked: int | None) -> int | None:
    edit = job.request.edit
    # Crops are of many shapes, and none of them is known before its mask is read.
    is_crop = edit.mask is not None and edit.masked_area == "crop"
    return None if is_crop else size_for(shape[0] * shape[1], pictures, asked)


def _shape(job: Job, max_megapixels: float) -> tuple[int, int]:
    """The size that the picture of a job is edited at; (0, 0) where it cannot be read, which the run will say."""
    try:
        return job.request.edit.size_of(size_of_file(job.source, job.shown, max_megapixels))
    except PictureError:
        return (0, 0)
