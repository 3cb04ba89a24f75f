"""Strengths of edits of several rounds: a list (`0.8,0.6`), or a ramp (`0.8..0.4`) over as many rounds as there are."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeVar, cast

from ..errors import UsageError
from .values import KINDS, ValueType

E = TypeVar("E", bound="Repeated")
_RAMP = ".."


class Strengths(float):
    """One strength a round; as a number it is that of the first. `str` gives the text that it was read from."""

    given: tuple[float, ...]
    is_ramp: bool

    def __new__(cls, given: Sequence[float], is_ramp: bool = False) -> Strengths:
        made = super().__new__(cls, given[0])
        made.given, made.is_ramp = tuple(given), is_ramp
        return made

    def of(self, rounds: int) -> tuple[float, ...]:
        """The strength of each of so many rounds; of a list, as many as it has."""
        if self.is_ramp:
            first, last = self.given
            return tuple(first + (last - first) * k / max(1, rounds - 1) for k in range(rounds))
        return self.given

    def __str__(self) -> str:
        return (_RAMP if self.is_ramp else ",").join(f"{value:.15g}" for value in self.given)

    __repr__ = __str__

    def __reduce__(self) -> tuple[Any, ...]:
        return Strengths, (self.given, self.is_ramp)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Strengths) and (self.given, self.is_ramp) == (other.given, other.is_ramp)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash((self.given, self.is_ramp))


def _parse(text: str) -> float:
    first, ramp, last = text.partition(_RAMP)
    if ramp:
        return _made([float(first), float(last)], is_ramp=True)
    return _made([float(part) for part in text.split(",")])


def _made(values: Sequence[float], *, is_ramp: bool = False) -> float:
    if len(values) == 1:
        return values[0]
    # The bounds of an option are those of its number, which is only the first here.
    if not values or not all(math.isfinite(value) and 0 < value <= 1 for value in values):
        raise ValueError
    return Strengths(values, is_ramp)


def _fit(value: object) -> float:
    if isinstance(value, Strengths):
        return value
    if isinstance(value, str) and (_RAMP in value or "," in value):
        return _parse(value)
    if isinstance(value, (list, tuple)):
        return _made([KINDS[float].fit(item) for item in cast("Sequence[object]", value)])
    return KINDS[float].fit(value)


STRENGTH = ValueType(
    "float",
    "a number",
    "numbers",
    "X",
    {"anyOf": [{"type": "number"}, {"type": "string"}, {"type": "array", "items": {"type": "number"}}]},
    _parse,
    _fit,
    lambda value: str(value) if isinstance(value, Strengths) else value,
    is_number=True,
)


class Repeated(Protocol):
    """What `rounds_of` needs of an edit."""

    @property
    def strength(self) -> float: ...
    @property
    def repeats(self) -> int: ...
    def varied(self, changes: Mapping[str, Any]) -> Any: ...


def rounds_of(edit: E) -> tuple[E, ...]:
    """The edits of one round that an edit consists of. Raises UsageError."""
    given, repeats = edit.strength, edit.repeats
    if not isinstance(given, Strengths):
        return (edit.varied({"repeats": 1}),) * repeats if repeats > 1 else (edit,)
    count = len(given.given) if repeats == 1 and not given.is_ramp else repeats
    if count == 1 or (not given.is_ramp and count != len(given.given)):
        wanted = "2 and more" if given.is_ramp else f"{len(given.given)}"
        raise UsageError(
            f"strength is {given}, of {wanted} rounds, and repeats is {repeats}; let them agree (--repeats K)"
        )
    return tuple(edit.varied({"strength": one, "repeats": 1}) for one in given.of(count))


def extent_of(strengths: Sequence[float], run: int, total: int) -> str:
    """How far an edit goes whose rounds have these strengths, for people: `run` steps, of `total` for a single one."""
    listed = ", ".join(f"{one:g}" for one in dict.fromkeys(strengths))
    if len(strengths) > 1:
        return f"{run} steps ({len(strengths)} rounds, strength {listed})"
    return f"{run} of {total} steps (strength {listed})"
