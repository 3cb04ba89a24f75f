"""A sweep: options that vary as the command line says them, and a picture for each combination of their values."""

from __future__ import annotations

import csv
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import UsageError, shortened
from ..options import Field, Layer, checked, field_named
from .matrix import Matrix, text_of, words_of

PRESET, STRENGTH = "preset", "strength"
_NEVER = {"count": "a cell is one picture; vary the seed instead, such as --sweep seed=1,2,3"}


@dataclass(frozen=True, slots=True)
class Axis:
    """An option that varies (None: presets), with its values, and how people and names of files call them."""

    field: Field | None
    values: tuple[Any, ...]
    labels: tuple[str, ...]
    words: tuple[str, ...]

    @property
    def key(self) -> str:
        return self.field.key if self.field else PRESET

    @property
    def name(self) -> str:
        return self.field.name if self.field else PRESET

    def named(self, place: int) -> str:
        """The option with one of its values, for people."""
        return f"{self.key} {self.labels[place]}"


@dataclass(frozen=True, slots=True)
class Cell:
    """One combination: where it is on each axis, its values by the names of options, and its name for files."""

    at: tuple[int, ...]
    values: Mapping[str, Any]
    label: str
    variant: str


@dataclass(frozen=True, slots=True)
class Sweep:
    """All axes, the first one across, the second one down, further ones as blocks."""

    axes: tuple[Axis, ...]

    @property
    def across(self) -> Axis:
        return self.axes[0]

    @property
    def down(self) -> Axis | None:
        return next(iter(self.axes[1:]), None)

    @property
    def further(self) -> tuple[Axis, ...]:
        return self.axes[2:]

    @property
    def strengths(self) -> int | None:
        """Which axis is that of strengths, where they vary."""
        return next((number for number, axis in enumerate(self.axes) if axis.key == STRENGTH), None)

    @property
    def blocks(self) -> list[tuple[tuple[int, ...], str]]:
        """The places on the further axes, each with its name; one without a name where there are none."""
        places = itertools.product(*(range(len(axis.values)) for axis in self.further))
        return [(at, ", ".join(axis.named(one) for axis, one in zip(self.further, at, strict=True))) for at in places]

    @property
    def size(self) -> int:
        """How many combinations there are, which may be more than `len` can say."""
        return math.prod(len(axis.values) for axis in self.axes)

    def cells(self) -> Iterator[Cell]:
        """Each combination; the last axis varies fastest, as in the `[matrix]` of a list of jobs."""
        matrix = Matrix({a.key: a.values for a in self.axes}, {a.key: a.words for a in self.axes})
        places = itertools.product(*(range(len(axis.values)) for axis in self.axes))
        for at, (_, variant) in zip(places, matrix.members(), strict=True):
            chosen = list(zip(self.axes, at, strict=True))
            values = {axis.name: axis.values[place] for axis, place in chosen}
            yield Cell(at, values, ", ".join(axis.named(place) for axis, place in chosen), variant)


def sweep_of(texts: Sequence[str], most: int) -> Sweep:
    """The sweep that `OPTION=VALUE,VALUE,...` say, an axis each. Raises UsageError for what cannot be meant, and for
    more than `most` combinations."""
    axes = [_axis(text) for text in texts]
    names = [axis.name for axis in axes]
    double = next((axis.key for axis in axes if names.count(axis.name) > 1), None)
    if double is not None:
        raise UsageError(f"--sweep: {double} is there twice; give all of its values at once")
    checked(Layer("--sweep", dict.fromkeys(name for name in names if name != PRESET)))
    sweep = Sweep(tuple(axes))
    if sweep.size > most:
        raise UsageError(
            f"--sweep: {sweep.size:,} combinations are over the limit of {most:,} pictures; "
            "leave values out, or allow it with --sweep-limit N"
        )
    return sweep


def _axis(text: str) -> Axis:
    word, equals, listed = text.partition("=")
    key = word.strip().lstrip("-")
    if not equals or not key:
        raise UsageError(f"--sweep {shortened(text)}: expected OPTION=VALUE,VALUE,..., such as strength=0.3,0.5,0.7")
    place = f"--sweep {shortened(key)}"
    texts = _split(listed, place)
    option = None if key == PRESET else field_named(key, "--sweep")
    if option and option.name in _NEVER:
        raise UsageError(f"{place}: {_NEVER[option.name]}")
    values = [option.parse(one, place) for one in texts] if option else texts
    is_path = option is None or option.option.path
    words = words_of(values, place, is_path=is_path, error=UsageError)
    labels = [text_of(value, is_path=is_path) or "(none)" for value in values]
    told_apart = len(set(labels)) == len(labels)
    return Axis(option, tuple(values), tuple(labels if told_apart else words), tuple(words))


def _split(listed: str, place: str) -> list[str]:
    """The values between commas; one with a comma in it stands in double quotes, and a quote in those is doubled."""
    lines = listed.splitlines(keepends=True) or [""]
    try:
        rows = list(csv.reader(lines, skipinitialspace=True, strict=True))
    except csv.Error:
        raise UsageError(f'{place}: has an open quote; write "..." around a value, and "" for a quote in it') from None
    if len(rows) > 1:
        raise UsageError(f'{place}: has a line end between values; a value that has one stands in quotes, "..."')
    return rows[0] if rows and rows[0] else [""]
