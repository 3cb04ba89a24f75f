"""The second axis of a sweep's plot: how unlike real pictures what was made looks, to the model that made it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import PictureError, SdeditError

if TYPE_CHECKING:
    from PIL import Image

    from ..batch.swept import Swept
    from .render import Reporter
    from .worker import EditorWorker

_FLAG = "--sweep-realism"
_MOST_PICTURES = 256


@dataclass(frozen=True, slots=True)
class Real:
    """The pictures that the results should look like, small, and how people call them."""

    pictures: Sequence[Image.Image]
    name: str


def real_pictures(folder: str, limit: float, to: Reporter) -> Real:
    """The pictures of a folder and those in it, or of a glob pattern; of very many, some that are equally far from each
    other. Raises PictureError where there are none, or none can be read."""
    from ..batch.folders import Search, pictures_of
    from ..batch.swept import as_seen, looked_at
    from ..pictures.codec import read_picture

    try:
        paths = list(pictures_of(folder, Search(recursive=True)).paths())
    except SdeditError as error:
        raise PictureError(f"{_FLAG}: {error}") from None
    step = max(1.0, len(paths) / _MOST_PICTURES)
    chosen = [paths[int(number * step)] for number in range(min(len(paths), _MOST_PICTURES))]
    found: list[Image.Image] = []
    problem = ""
    for path in chosen:
        try:
            picture = read_picture(path, limit)
        except PictureError as error:
            problem = problem or str(error)
            to.warn(f"{_FLAG}: {error}; left out")
            continue
        found.append(looked_at(as_seen(picture.rgb, picture.alpha, picture.icc)))
    if not found:
        raise PictureError(f"{_FLAG}: no picture of {folder} can be read ({problem})")
    return Real(found, f"{len(found)} real picture{'' if len(found) == 1 else 's'}")


def measure(inputs: Iterable[Swept], worker: EditorWorker, real: Real | None, to: Reporter) -> None:
    """Notes of each picture how far its features are from those of the real pictures, or without any, from those of its
    input. What speaks against it is told, and costs no more than the axis."""
    from ..errors import is_out_of_memory

    for swept in inputs:
        kept = {number: shown.small for number, shown in swept.shown.items() if shown.small}
        if swept.small is None or not kept:
            continue
        against = real or Real([swept.small], "the input (no real pictures)")
        try:
            found = worker.unlikeness([swept.small, *kept.values()], against.pictures, max(swept.small.size))
        except Exception as problem:
            if not is_out_of_memory(problem):
                raise
            to.warn(f"{swept.title}: there is not memory enough to measure realism, so the plot is without it")
            continue
        swept.compared_with = against.name
        swept.features = found[0] if real else None
        swept.measured(dict(zip(kept, found[1:], strict=True)))
