"""What is known of one option, and how its values are read and checked wherever they come from."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

from ..errors import UsageError, did_you_mean, shown
from .values import KINDS, ValueType

ENV_PREFIX = "SDEDIT_"
MAX_SEED = 2**64 - 1
MAX_CHARACTERS = 100_000
# Of all that one edit says, as JSON: more than it may say, and little enough for what JSON makes of it.
MAX_DOCUMENT = 4_000_000
MAX_ITEMS = 1000


@dataclass(frozen=True, slots=True)
class Option:
    """What is known of one option besides its type and default.

    `low` and `high` bound numbers (and every number of a list); `above` says that `low` itself is out; `numbers` are
    the only ones that fit. `kind` is the kind of values that are neither text nor numbers. `pixels` says whether
    another value means another picture, beyond the rounding of a machine; `saved` that pictures carry it though it
    shapes none of their pixels; `path` that the value names a file or folder, whose content is what counts, but for the
    `words` that name none.
    """

    help: str
    group: str
    short: str = ""
    low: float | None = None
    high: float | None = None
    above: bool = False
    choices: tuple[str, ...] = ()
    numbers: tuple[int, ...] = ()
    kind: ValueType | None = None
    pixels: bool = True
    saved: bool = False
    path: bool = False
    words: tuple[str, ...] = ()
    metavar: str = ""
    blank: str = ""  # what the absence of a value means, for the help page
    variable: str = ""  # where the environment says something else by the usual name

    @property
    def spellings(self) -> tuple[str, ...]:
        """All that it may be, as the command line has it; () where that is no list."""
        return self.choices or tuple(map(str, self.numbers))

    @property
    def in_picture(self) -> bool:
        """Whether pictures carry it: it is written into them, and a picture of anybody's may set it.

        That is what shapes a picture or its file, to its last bits; never what names files, the network, safety, the
        amount of work or the machine, but for the library that computes.
        """
        return (self.pixels or self.saved) and not self.path


@dataclass(frozen=True, slots=True)
class Field:
    """One option with everything derived from its declaration."""

    name: str
    kind: ValueType
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
    def is_switch(self) -> bool:
        return self.kind is KINDS[bool]

    @property
    def repeated(self) -> bool:
        """Whether the command line names it once an item; lists of numbers are one word."""
        return self.many and not self.kind.is_number

    @property
    def expected(self) -> str:
        """The values that fit, in words."""
        return self._expected(many=self.many)

    def _expected(self, *, many: bool) -> str:
        option = self.option
        if option.choices:
            return "one of " + ", ".join(option.choices)
        if option.numbers:
            return " or ".join(map(str, option.numbers))
        noun = f"a list of {self.kind.nouns}" if many else self.kind.noun
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
        """The value written as text, checked; `label` names its place in the UsageError.

        The numbers of a list stand between commas or blanks, the items of a repeated option on a line each.
        """
        text = self._text(text)
        if not self.many:
            return self._read_one(text, self.kind.parse, label)
        words = text.splitlines() if self.repeated else text.replace(",", " ").split()
        return self._read(words, self.kind.parse, text, label)

    def parse_item(self, text: str, label: str) -> Any:
        """One item of a repeated option, as the command line gives it. Raises UsageError."""
        return self._told(lambda: self.kind.parse(self._text(text)), text, label, many=False)

    def _text(self, text: str) -> str:
        return text if self.option.path else _from_utf8(text)

    def fit(self, value: object, label: str) -> Any:
        """The value of a TOML or JSON document, checked; `label` names its place in the UsageError.

        One text does for a list of it."""
        if not self.many:
            return self._read_one(value, self.kind.fit, label)
        if self.repeated and isinstance(value, str):
            value = (value,)
        if not isinstance(value, (list, tuple)):
            raise self.misfit(value, label)
        return self._read(cast("Sequence[object]", value), self.kind.fit, cast("object", value), label)

    def _read_one(self, given: Any, read: Callable[[Any], Any], label: str) -> Any:
        return self.check(self._told(lambda: read(given), given, label), label)

    def _read(self, items: Sequence[Any], read: Callable[[Any], Any], whole: object, label: str) -> Any:
        if len(items) > MAX_ITEMS:
            raise UsageError(f"{label} has {len(items)} entries; expected at most {MAX_ITEMS}")
        values = self._told(lambda: tuple(map(read, items)), whole, label)
        if not values and self.default != ():
            raise self.misfit(whole, label)
        return self.check(values, label)

    def _told(self, read: Callable[[], Any], given: object, label: str, *, many: bool = True) -> Any:
        """What `read` makes of what is given; what is wrong with it as a UsageError with its place."""
        try:
            return read()
        except UsageError as problem:
            raise UsageError(f"{label}: {problem}") from None
        except ValueError:
            raise self.misfit(given, label, many=many) from None

    def check(self, value: Any, label: str) -> Any:
        """`value` when it lies within the bounds; UsageError otherwise."""
        option = self.option
        for item in value if self.many else (value,):
            if option.choices and not any(_matches(item, choice) for choice in option.choices):
                raise UsageError(f"{self.misfit(item, label)}{did_you_mean(item, option.choices)}")
            if self.kind.is_number and not _within(item, option):
                raise self.misfit(item, label)
            if isinstance(item, str):
                _check_text(item, label, is_path=option.path)
        return value

    def dump(self, value: Any) -> Any:
        """What JSON keeps of a value; `fit` reads it back."""
        return tuple(map(self.kind.dump, value)) if self.many else self.kind.dump(value)

    def misfit(self, value: object, label: str, *, many: bool = True) -> UsageError:
        """The error that says what was found at `label`, and what fits there (`many`: or in one item of a list)."""
        found = f"'{shown(value)}'" if isinstance(value, str) else shown(value)
        found = f"{value:.15g}" if isinstance(value, float) else found
        return UsageError(f"{label} is {found}; expected {self._expected(many=many and self.many)}")

    def schema(self) -> dict[str, Any]:
        """The JSON schema of its values, with default and help."""
        option = self.option
        value = dict(self.kind.schema)
        if any(":N" in choice for choice in option.choices):
            value["pattern"] = f"^({'|'.join(choice.replace(':N', ':[0-9]+') for choice in option.choices)})$"
        elif option.choices or option.numbers:
            value["enum"] = list(option.choices or option.numbers)
        elif self.kind.name == KINDS[str].name:
            value["maxLength"] = MAX_CHARACTERS
        if option.low is not None:
            value["exclusiveMinimum" if option.above else "minimum"] = option.low
        if option.high is not None:
            value["maximum"] = option.high
        least = {} if self.default == () else {"minItems": 1}
        whole = {"type": "array", "items": value, **least, "maxItems": MAX_ITEMS} if self.many else value
        if self.repeated:
            whole = {"anyOf": [whole, {"type": "string", "maxLength": MAX_CHARACTERS}]}
        default = {} if self.default in (None, ()) else {"default": self.default}
        return whole | default | {"description": option.help}


def _from_utf8(text: str) -> str:
    """Text that Python took byte by byte, as it does in a locale of ASCII alone, read as the UTF-8 that it is."""
    if text.isascii():
        return text
    try:
        return text.encode("ascii", "surrogateescape").decode("utf-8")
    except UnicodeError:
        return text


def _check_text(text: str, label: str, *, is_path: bool) -> None:
    if len(text) > MAX_CHARACTERS:
        raise UsageError(f"{label} has {len(text)} characters; expected at most {MAX_CHARACTERS}")
    # Bytes of the command line that are not UTF-8 arrive as lone surrogates, which no tokenizer takes.
    if not is_path and not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise UsageError(f"{label} is not valid UTF-8 text: '{shown(text)}'") from None


def _bound(high: float) -> str:
    return "2^64 - 1" if high == MAX_SEED else f"{high:.15g}"


def _matches(item: str, choice: str) -> bool:
    # A choice may stand for a family: 'cuda:N' is met by 'cuda:0'.
    stem, wild, _ = choice.partition(":N")
    return item == choice if not wild else item.startswith(stem + ":") and item[len(stem) + 1 :].isdecimal()


def _within(item: float, option: Option) -> bool:
    if isinstance(item, float) and not math.isfinite(item):
        return False
    if option.numbers:
        return item in option.numbers
    if option.low is not None and (item <= option.low if option.above else item < option.low):
        return False
    return option.high is None or item <= option.high
