"""The pictures of a sweep as they come: each small enough for the sheet, and how far it is from its input."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ..errors import SdeditError, first_line
from ..pictures.profiles import seen_in_srgb
from ..pictures.readers import pillow
from .ledger import Ledger
from .sheet import Tile, shown_at, shrunk
from .sheet_plot import Line, Point, distance
from .sweep import STRENGTH, Cell, Sweep

if TYPE_CHECKING:
    from collections.abc import Callable

    from PIL import Image

    from ..pictures.codec import Picture
    from .targets import Job, Target

SCHEMA = "sdedit.sweep/1"
# The longer side of a picture that is measured, in pixels.
_MEASURED_SIDE = 256


@dataclass(frozen=True, slots=True)
class Shown:
    """A finished picture for the sheet and for a page, its distance to the input as it was worked on (None: of another
    size), and the SHA-256 of its file; where the strength varies, a small one to measure, and its distance in features
    once that is known."""

    image: Image.Image
    uri: str
    distance: float | None
    sha256: str
    small: Image.Image | None = None
    features: float | None = None


@dataclass
class Swept:
    """What became of the cells of one input, by their number."""

    title: str
    cells: Sequence[Cell]
    input: Image.Image
    input_uri: str = ""
    small: Image.Image | None = None
    """The input to measure, where the strength varies."""
    compared_with: str = ""
    """What the features of the pictures were compared with."""
    features: float | None = None
    """How far those of the input are from that, if it is not the input itself."""
    input_sha256: str = ""
    shown: dict[int, Shown] = field(default_factory=dict[int, Shown])
    problems: dict[int, str] = field(default_factory=dict[int, str])

    @cached_property
    def number_of(self) -> Mapping[tuple[int, ...], int]:
        """The number of the cell at each place."""
        return {cell.at: number for number, cell in enumerate(self.cells)}

    def tiles(self) -> dict[tuple[int, ...], Tile]:
        """What the sheet shows at each place."""
        return {
            cell.at: Tile(self.shown[number].image) if number in self.shown else Tile(None, self.problems[number])
            for number, cell in enumerate(self.cells)
        }

    def lines(self, sweep: Sweep) -> list[Line]:
        """The distances by strength, a line for each combination of the others; none of one strength alone."""
        axis = sweep.strengths
        found: dict[str, list[Point]] = {}
        for number, shown in sorted(self.shown.items()):
            strength = None if axis is None else self.cells[number].values[STRENGTH]
            if axis is not None and type(strength) is float and shown.distance is not None:
                others = (o for o in enumerate(zip(sweep.axes, self.cells[number].at, strict=True)) if o[0] != axis)
                name = ", ".join(one.named(place) for _, (one, place) in others)
                found.setdefault(name, []).append(Point(strength, shown.distance, shown.features))
        several = any(len(points) > 1 for points in found.values())
        return [Line(name, points) for name, points in found.items()] if several else []

    def measured(self, features: Mapping[int, float | None]) -> None:
        """Notes the distance in features of pictures, by their number."""
        for number, value in features.items():
            self.shown[number] = replace(self.shown[number], features=value)

    def facts(self, sweep: Sweep, common: Mapping[str, Any], version: str) -> str:
        """What the sheet says of itself: ASCII JSON on one line, without times and paths."""
        return json.dumps(
            {
                "schema": SCHEMA,
                "version": version,
                "input": {"sha256": self.input_sha256, **_rounded({"features": self.features})},
                **({"compared_with": self.compared_with} if self.compared_with else {}),
                "edit": dict(common),
                "axes": [{"option": axis.key, "values": list(axis.labels)} for axis in sweep.axes],
                "pictures": [self._fact(number) for number in range(len(self.cells))],
            },
            sort_keys=True,
            separators=(",", ":"),
        )

    def _fact(self, number: int) -> dict[str, Any]:
        shown = self.shown.get(number)
        if shown is None:
            return {"at": self.cells[number].at, "failed": True}
        near = _rounded({"distance": shown.distance, "features": shown.features})
        return {"at": self.cells[number].at, "sha256": shown.sha256, **near}


def _rounded(values: Mapping[str, float | None]) -> dict[str, float]:
    return {name: round(value, 6) for name, value in values.items() if value is not None}


class Collecting(Ledger):
    """Keeps the pictures of jobs for the sheet: `of` says whose cell a job is, by its index."""

    def __init__(self, of: Mapping[int, tuple[Swept, int]], side: int, uri_of: Callable[[Image.Image], str]) -> None:
        self._of = of
        self._side = side
        self._uri_of = uri_of

    def made(self, job: Job, target: Target, picture: Picture, data: bytes) -> None:
        del target
        swept, number = self._of[job.index]
        swept.input_sha256 = swept.input_sha256 or picture.sha256
        rgb = _opened(data)
        far = distance(rgb, picture.rgb) if rgb.size == picture.rgb.size else None
        alpha = picture.alpha if job.format != "jpeg" else None
        seen = as_seen(rgb, alpha, picture.icc)
        sha256 = hashlib.sha256(data).hexdigest()
        small = looked_at(seen) if swept.small else None
        swept.shown[number] = Shown(shown_at(seen, self._side), self._uri_of(seen), far, sha256, small)

    def failed(self, job: Job, error: SdeditError) -> None:
        swept, number = self._of[job.index]
        swept.problems[number] = first_line(error)


def _opened(data: bytes) -> Image.Image:
    return pillow(data).convert("RGB")


def looked_at(seen: Image.Image) -> Image.Image:
    """The picture as it is measured: no larger than features need."""
    return shrunk(seen, _MEASURED_SIDE)


def as_seen(rgb: Image.Image, alpha: Image.Image | None, icc: bytes | None) -> Image.Image:
    """A picture in sRGB, on light gray where it is transparent."""
    from PIL import Image

    seen = seen_in_srgb(rgb, icc)
    return seen if alpha is None else Image.composite(seen, Image.new("RGB", seen.size, "#e6e6e2"), alpha)
