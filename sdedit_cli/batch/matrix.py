"""The `[matrix]` of a list of jobs: options that vary, and the product of their values."""

from __future__ import annotations

import itertools
import math
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from ..errors import JobFileError, SdeditError, UsageError
from ..options import Field, field_named
from .names import clipped, mark_of

MAX_VARIANTS = 100_000
_LONGEST_WORD = 40  # bytes of one value in a name
_LONGEST_VARIANT = 120  # leaves the stem of the input room


@dataclass(frozen=True, slots=True)
class Matrix:
    """Options by their spelling with the values that each takes, and a word of each value for the names of files."""

    values: Mapping[str, Sequence[object]]
    words: Mapping[str, Sequence[str]]

    @property
    def size(self) -> int:
        """How many combinations there are, which may be more than `len` can say."""
        return math.prod(map(len, self.values.values()))

    def members(self) -> Iterator[tuple[dict[str, object], str]]:
        """Each combination with its name, of the options that have several values; the last option varies fastest.

        Names of two members differ, in their letters and not in capitals alone.
        """
        rows = [list(zip(values, self.words[key], strict=True)) for key, values in self.values.items()]
        several = [key for key, values in self.values.items() if len(values) > 1]
        for chosen in itertools.product(*rows):
            member = dict(zip(self.values, chosen, strict=True))
            # No key and no word has a '_' in it.
            variant = "_".join(f"{key}-{member[key][1]}" for key in several)
            yield {key: value for key, (value, _) in member.items()}, clipped(variant, _LONGEST_VARIANT)


def read_matrix(table: object, label: str) -> Matrix:
    """The matrix that a table of lists describes. Raises JobFileError for what no product can be made of."""
    if not isinstance(table, dict):
        raise JobFileError(f"{label}: is no table; expected lists by option, such as strength = [0.4, 0.8]")
    values: dict[str, list[object]] = {}
    words: dict[str, list[str]] = {}
    for key, given in cast("dict[str, object]", table).items():
        option = _option(key, label)
        place = f"{label}: {option.key}"
        if not isinstance(given, list) or not given:
            raise JobFileError(f"{place} is no list of values; expected one such as [..., ...]")
        if option.key in values:
            raise JobFileError(f"{place} is there twice")
        # Of an option that is a list itself, a list of lists; or of items, where each stands alone.
        alone = option.many and not any(isinstance(value, list) for value in cast("list[object]", given))
        items: list[object] = [[value] if alone else value for value in cast("list[object]", given)]
        values[option.key] = items
        words[option.key] = words_of(
            [_fitted(option, item, place) for item in items], place, is_path=option.option.path
        )
    return Matrix(values, words)


def _option(key: str, label: str) -> Field:
    if key in ("input", "inputs", "output"):
        raise JobFileError(f"{label}: has '{key}', which is no option; name the pictures by inputs = [...] on top")
    try:
        return field_named(key, label)
    except UsageError as problem:
        raise JobFileError(str(problem)) from None


def _fitted(option: Field, value: object, place: str) -> Any:
    try:
        return option.fit(value, place)
    except UsageError as problem:
        raise JobFileError(str(problem)) from None


def words_of(values: Sequence[Any], place: str, *, is_path: bool, error: type[SdeditError] = JobFileError) -> list[str]:
    """A word of each value for the names of files. Raises `error` for a value that is there twice."""
    texts = [text_of(value, is_path=is_path) for value in values]
    double = next((text for text, count in Counter(map(str, values)).items() if count > 1), None)
    if double is not None:
        raise error(f"{place} has '{double[:60]}' twice; each value makes a picture of its own")
    words = [clipped(_word(text), _LONGEST_WORD) for text in texts]
    clashes = Counter(word.casefold() for word in words)
    # Of values that a name cannot tell apart, all get a mark of their own: no name hangs on which came first.
    return [
        word if word and clashes[word.casefold()] == 1 else word + mark_of(str(value))
        for word, value in zip(words, values, strict=True)
    ]


def text_of(value: Any, *, is_path: bool) -> str:
    """A value for people, a path by its last part."""
    if isinstance(value, tuple):
        return "-".join(text_of(item, is_path=is_path) for item in cast("tuple[Any, ...]", value)) or "none"
    if type(value) is float:  # and not one that knows a better text
        return f"{value:.15g}"
    if isinstance(value, bool):
        return str(value).lower()
    return os.path.basename(str(value).replace("\\", "/")) if is_path else str(value)


def _word(text: str) -> str:
    return re.sub(r"(?:[^\w.+]|_)+", "-", text).strip("-.")
