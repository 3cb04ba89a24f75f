"""Ranks and alphas of single modules, as PEFT keeps them: by patterns of their names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ..errors import shown
from .deltas import Misfit

_OF_EXPRESSIONS = frozenset("^$*+?()[]{}|\\")


class Patterns:
    """Values by names of modules or ends of them, of which the first that fits counts; '^' says that it is a whole one.

    There may be as many as modules: a module is looked up by its name and the ends of that, not held against them all.
    """

    def __init__(self, title: str, values: Mapping[str, Any]) -> None:
        """`title` is what a file calls them."""
        self._title = title
        self._values = list(values.values())
        # Where the first pattern is that names, or ends, such names; and the first that is more than a name.
        self._whole: dict[str, int] = {}
        self._end: dict[str, int] = {}
        self._expression: str | None = None
        for place, pattern in enumerate(values):
            plain = pattern.removeprefix("^").removesuffix("$").replace("\\.", ".")
            if not _OF_EXPRESSIONS.isdisjoint(plain):
                self._expression = pattern
                break
            self._whole.setdefault(plain, place)
            if not pattern.startswith("^"):
                self._end.setdefault(plain, place)

    def get(self, name: str, otherwise: object) -> Any:
        """The value for a module of that name. Raises Misfit where none fits before an expression, which may take for
        ever."""
        wholes = [self._whole.get(name), self._whole.get(name.removeprefix("text_model."))]
        ends = [self._end.get(name[dot.end() :]) for dot in re.finditer(r"\.", name)]
        fitting = [place for place in (*wholes, *ends) if place is not None]
        if fitting:
            return self._values[min(fitting)]
        if self._expression is not None:
            wrong = f"{self._title} has '{shown(self._expression)}'"
            raise Misfit(f"{wrong}; expected names of modules, expressions are not read")
        return otherwise
