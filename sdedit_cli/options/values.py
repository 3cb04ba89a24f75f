"""The kinds of values that options have: how each is read from text and from TOML or JSON, and how it is kept."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, cast, get_args, get_type_hints

from ..errors import UsageError, did_you_mean, shown

T = TypeVar("T")


def as_is(value: Any) -> Any:
    """The value."""
    return value


_TRUTHS = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}


@dataclass(frozen=True, slots=True)
class ValueType:
    """One kind of value, in words and in the terms of JSON schema.

    `parse` reads it from text and `fit` from a value of a TOML or JSON document; both raise ValueError for what is
    none. `dump` gives what JSON keeps of it, which `fit` reads back.
    """

    name: str
    noun: str
    nouns: str
    metavar: str
    schema: Mapping[str, Any]
    parse: Callable[[str], Any]
    fit: Callable[[object], Any]
    dump: Callable[[Any], Any] = as_is
    is_number: bool = False


def _exactly(kind: type[T]) -> Callable[[object], T]:
    def fit(value: object) -> T:
        # A bool counts as a whole number in Python, and in no document.
        if not isinstance(value, kind) or isinstance(value, bool) != (kind is bool):
            raise ValueError
        return value

    return fit


def written(parse: Callable[[str], T]) -> Callable[[object], T]:
    """How a kind that documents have as text alone is read from them."""
    text = _exactly(str)
    return lambda value: parse(text(value))


def _whole(value: object) -> int:
    # TOML tells 2.0 from 2; who writes the one means the other.
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return _exactly(int)(value)


def _number(value: object) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise ValueError
    try:
        return float(value)
    except OverflowError:
        raise ValueError from None


def _not_empty(problem: str) -> Callable[[str], str]:
    """What reads a text that an unset variable of a shell leaves empty, which is a UsageError."""

    def parse(text: str) -> str:
        if not text.strip():
            raise UsageError(problem)
        return text

    return parse


named = _not_empty("the path is empty; expected a file, a folder or a name")
"""A path as it is. Raises UsageError for that of nothing: it would be the current folder."""
_not_blank = _not_empty("the name is empty; expected one such as fp16")


def _truth(text: str) -> bool:
    try:
        return _TRUTHS[text.strip().lower()]
    except KeyError:
        raise ValueError from None


KINDS: dict[type, ValueType] = {
    str: ValueType("str", "text", "texts", "TEXT", {"type": "string"}, str, _exactly(str)),
    int: ValueType("int", "a whole number", "whole numbers", "N", {"type": "integer"}, int, _whole, is_number=True),
    float: ValueType("float", "a number", "numbers", "X", {"type": "number"}, float, _number, is_number=True),
    bool: ValueType("bool", "true or false", "truths", "", {"type": "boolean"}, _truth, _exactly(bool)),
}

PATH = ValueType("str", "a path or a name", "paths", "PATH", {"type": "string", "minLength": 1}, named, written(named))
NAME = ValueType("str", "a name", "names", "NAME", {"type": "string", "minLength": 1}, _not_blank, written(_not_blank))


def without_none(hint: Any) -> Any:
    """The type that a hint names besides None."""
    return next(arg for arg in get_args(hint) if arg is not type(None)) if type(None) in get_args(hint) else hint


def composite(of: type[T], noun: str, nouns: str, metavar: str, parse: Callable[[str], T]) -> ValueType:
    """The kind of a frozen dataclass whose members are of the kinds above: in a document a text, or a table of them.

    `parse` reads the text, and `str` of a value gives it back. A member that is a path of a file is called `path`.
    """
    hints = get_type_hints(of)
    members = dataclasses.fields(cast("Any", of))
    kinds = {
        member.name: PATH if member.name == "path" else KINDS[without_none(hints[member.name])] for member in members
    }
    required = {member.name for member in members if member.default is dataclasses.MISSING}

    def fit(value: object) -> T:
        if isinstance(value, of):
            return value
        if isinstance(value, str):
            return parse(value)
        if not isinstance(value, dict):
            raise ValueError
        given = cast("dict[str, object]", value)
        unknown = next((name for name in given if name not in kinds), None)
        if unknown is not None:
            near = did_you_mean(unknown, list(kinds))
            raise UsageError(f"a table has '{shown(unknown)}'{near}; expected some of {', '.join(kinds)}")
        if lacking := sorted(required - set(given)):
            raise UsageError(f"a table has no '{lacking[0]}'; expected {noun}")
        return of(**{name: member(name, item) for name, item in given.items()})

    def member(name: str, item: object) -> Any:
        try:
            return kinds[name].fit(item)
        except ValueError:
            raise UsageError(f"'{name}' of a table is {shown(repr(item))}; expected {kinds[name].noun}") from None

    def dump(value: T) -> dict[str, Any]:
        held = {member.name: (getattr(value, member.name), member.default) for member in members}
        return {name: item for name, (item, default) in held.items() if item != default}

    table = {
        "type": "object",
        "properties": {name: dict(kind.schema) for name, kind in kinds.items()},
        "required": sorted(required),
        "additionalProperties": False,
    }
    return ValueType(of.__name__, noun, nouns, metavar, {"anyOf": [{"type": "string"}, table]}, parse, fit, dump)


def split_numbers(text: str, most: int) -> tuple[str, tuple[float, ...]]:
    """A text such as `PATH:0.8:0.5` as what is before, and at most `most` numbers behind: colons may be in both.

    What is left before them is never empty, so that `C:` of a path stays with it.
    """
    numbers: list[float] = []
    while len(numbers) < most:
        rest, colon, last = text.rpartition(":")
        try:
            number = float(last)
        except ValueError:
            break
        if not (rest and colon and math.isfinite(number)):
            break
        text = rest
        numbers.insert(0, number)
    return text, tuple(numbers)
