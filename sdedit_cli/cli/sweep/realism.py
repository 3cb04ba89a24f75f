"""The second axis of a sweep's plot: how unlike real pictures what was made looks, to the model that made it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...errors import PictureError, SdeditError, is_out_of_memory, listed

if TYPE_CHECKING:
    from PIL import Image

    from ...batch.swept import Swept
    from ..worker import EditorWorker

_FLAG = "--sweep-realism"
_MOST_PICTURES = 256


@dataclass(frozen=True, slots=True)
class Real:
    """The pictures that the results should look like, small, and how people call them."""

    pictures: Sequence[Image.Image]
    name: str


def real_pictures(folder: str, limit: float, warn: Callable[[str], None]) -> Real:
    """The pictures of a folder and those in it, or of a glob pattern; of very many, some that are equally far from each
    other. Raises PictureError where there are none, or none can be read."""
    from ...batch.folders import Search, pictures_of
    from ...batch.swept import as_seen, looked_at
    from ...pictures.codec import read_picture

    try:
        pictures = pictures_of(folder, Search(recursive=True))
        paths = list(pictures.paths())
    except SdeditError as error:
        raise PictureError(f"{_FLAG}: {error}") from None
    step = max(1.0, len(paths) / _MOST_PICTURES)
    chosen = [paths[int(number * step)] for number in range(min(len(paths), _MOST_PICTURES))]
    found: list[Image.Image] = []
    problems = [PictureError(row.problem) for row in pictures.unseen.unread]
    for path in chosen:
        try:
            picture = read_picture(path, limit)
        except PictureError as error:
            problems.append(error)
            continue
        found.append(looked_at(as_seen(picture.rgb, picture.alpha, picture.icc)))
    if not found:
        of_all = f"no picture of {folder} can be read ({problems[0]})"
        raise PictureError(f"{_FLAG}: {of_all if len(problems) > 1 else problems[0]}")
    for problem in problems:
        warn(f"{_FLAG}: {problem}; left out")
    return Real(found, f"{len(found)} real picture{'' if len(found) == 1 else 's'}")


def measure(inputs: Iterable[Swept], worker: EditorWorker, real: Real | None, warn: Callable[[str], None]) -> None:
    """Notes of each picture how far its features are from those of the real pictures, or without any, from those of its
    input. What speaks against it is told, and costs no more than the axis."""
    alike: dict[object, list[Swept]] = {}
    for number, swept in enumerate(inputs):
        if swept.small is not None and _kept(swept):
            # The real pictures are looked at once for all inputs of a size.
            alike.setdefault(max(swept.small.size) if real else number, []).append(swept)
    for group in alike.values():
        try:
            _measure_alike(group, worker, real)
        except Exception as problem:
            names = listed([swept.title for swept in group], 3)
            why = "there is not memory enough" if is_out_of_memory(problem) else f"{problem}"
            warn(f"{names}: realism cannot be measured ({why}), so the plot is without it")


def _measure_alike(group: Sequence[Swept], worker: EditorWorker, real: Real | None) -> None:
    """Notes it of inputs whose pictures are looked at in one size; of a single one where nothing is real."""
    pictures: list[Image.Image] = []
    for swept in group:
        pictures += [small for small in (swept.small, *_kept(swept).values()) if small]
    side = max(max(swept.small.size) for swept in group if swept.small)
    found = iter(worker.unlikeness(pictures, real.pictures if real else pictures[:1], side))
    for swept in group:
        of_input = next(found)
        features = {number: next(found) for number in _kept(swept)}
        if any(value is not None for value in features.values()):
            swept.compared_with = real.name if real else "the input (no real pictures)"
            swept.features = of_input if real else None
            swept.measured(features)


def _kept(swept: Swept) -> dict[int, Image.Image]:
    return {number: shown.small for number, shown in swept.shown.items() if shown.small}
