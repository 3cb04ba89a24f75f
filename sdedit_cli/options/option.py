"""What is known of one option, and how its values are read and checked wherever they come from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from ..errors import UsageError, did_you_mean

ENV_PREFIX = "SDEDIT_"
MAX_SEED = 2**64 - 1

_INVALID = object()
_TRUTHS = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
_NOUNS = {"str": "text", "int": "a whole number", "float": "a number", "bool": "true or false"}
_LIST_NOUNS = {"int": "whole numbers", "float": "numbers", "str": "texts"}


@dataclass(frozen=True, slots=True)
class Option:
    """What is known of one option besides its type and default.

    `low` and `high` bound numbers (and every number of a list); `above` says that `low` itself is out.
    `saved` says whether it belongs to the edit that a picture records.
    """

    help: str
    group: str
    short: str = ""
    low: float | None = None
    high: float | None = None
    above: bool = False
    choices: tuple[str, ...] = ()
    saved: bool = True
    metavar: str = ""
    blank: str = ""  # what the absence of a value means, for the help page
    variable: str = ""  # where the environment says something else by the usual name


@dataclass(frozen=True, slots=True)
class Field:
    """One option with everything derived from its declaration."""

    name: str
    kind: str
    many: bool
    default: Any
    option: Option

    @property
    def key(self) -> str:
        """The spelling in TOML."""
        return self.name.replace("_", "-")

    @property
    def flag(self) -> str:
        return "--" + self.key

    @property
    def variable(self) -> str:
        return self.option.variable or ENV_PREFIX + self.name.upper()

    @property
    def expected(self) -> str:
        """The values that fit, in words."""
        option = self.option
        if option.choices:
            return "one of " + ", ".join(option.choices)
        noun = f"a list of {_LIST_NOUNS[self.kind]}" if self.many else _NOUNS[self.kind]
        if option.low is not None and option.high is not None and not option.above:
            return f"{noun} from {option.low:.15g} to {_bound(option.high)}"
        ends = (
            [f"above {option.low:.15g}" if option.above else f"of at least {option.low:.15g}"]
            if option.low is not None
            else []
        )
        ends += [f"at most {_bound(option.high)}"] if option.high is not None else []
        return " ".join([noun, " and ".join(ends)]).strip()

    def parse(self, text: str, label: str) -> Any:
        """The value written as text, checked; `label` names its place in the UsageError."""
        words = text.replace(",", " ").split() if self.many else [text]
        values = [_from_text(self.kind, word) for word in words]
        if _INVALID in values or not values:
            raise self.misfit(text, label)
        return self.check(tuple(values) if self.many else values[0], label)

    def fit(self, value: object, label: str) -> Any:
        """The value of a TOML or JSON document, checked; `label` names its place in the UsageError."""
        items = _items(value) if self.many else [value]
        values = [_from_value(self.kind, item) for item in items]
        if _INVALID in values or not values:
            raise self.misfit(value, label)
        return self.check(tuple(values) if self.many else values[0], label)

    def check(self, value: Any, label: str) -> Any:
        """`value` when it lies within the bounds; UsageError otherwise."""
        option = self.option
        for item in value if self.many else (value,):
            if option.choices and not any(_matches(item, choice) for choice in option.choices):
                raise UsageError(f"{label} is {item!r}; expected {self.expected}{did_you_mean(item, option.choices)}")
            if self.kind in ("int", "float") and not _within(item, option):
                raise self.misfit(item, label)
            if self.kind == "str" and option.saved and not item.isascii():
                _refuse_surrogates(item, label)
        return value

    def misfit(self, value: object, label: str) -> UsageError:
        """The error that says what was found at `label`, and what fits there."""
        shown = f"'{value}'" if isinstance(value, str) else f"{value:.15g}" if isinstance(value, float) else f"{value}"
        return UsageError(f"{label} is {shown}; expected {self.expected}")


def _refuse_surrogates(text: str, label: str) -> None:
    # Bytes of the command line that are not UTF-8 arrive as lone surrogates, which no tokenizer takes.
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UsageError(f"{label} is not valid UTF-8 text: {text!a}") from None


def _bound(high: float) -> str:
    return "2^64 - 1" if high == MAX_SEED else f"{high:.15g}"


def _matches(item: str, choice: str) -> bool:
    # A choice may stand for a family: 'cuda:N' is met by 'cuda:0'.
    stem, wild, _ = choice.partition(":N")
    return item == choice if not wild else item.startswith(stem + ":") and item[len(stem) + 1 :].isdecimal()


def _within(item: float, option: Option) -> bool:
    if not math.isfinite(item):
        return False
    if option.low is not None and (item <= option.low if option.above else item < option.low):
        return False
    return option.high is None or item <= option.high


def _items(value: object) -> list[object]:
    return list(cast("Sequence[object]", value)) if isinstance(value, (list, tuple)) else []


def _from_text(kind: str, text: str) -> Any:
    try:
        if kind == "bool":
            return _TRUTHS.get(text.strip().lower(), _INVALID)
        return {"str": str, "int": int, "float": float}[kind](text)
    except ValueError:
        return _INVALID


def _from_value(kind: str, value: object) -> Any:
    if kind == "float" and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, bool) != (kind == "bool"):
        return _INVALID
    return value if isinstance(value, {"str": str, "int": int, "float": float, "bool": bool}[kind]) else _INVALID
