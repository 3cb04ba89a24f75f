"""TOML as a table of values."""

from __future__ import annotations

import re
import sys
from importlib import import_module
from typing import Any

from ..errors import SdeditError, shown

_MOST_SAID = 300  # characters of what the reader says: it may name a key of any length
# Comments and strings, each taken in one way alone. One without an end goes as far as it can: the reader refuses it.
_ASIDE = re.compile(
    r"""
    \#[^\n]*
    | "{3} [^"\\]* (?: (?: \\. | "(?!"") ) [^"\\]* )* (?:"{3,5})?
    | '{3} [^']* (?: '(?!'') [^']* )* (?:'{3,5})?
    | " [^"\\\n]* (?: \\[^\n] [^"\\\n]* )* "?
    | ' [^'\n]* '?
    """,
    re.VERBOSE | re.DOTALL,
)
# Looked for from the beginnings of words alone: tried from each letter, a long word would take time by its square.
_DEEP_NAME = re.compile(r"(?<![A-Za-z0-9_-])(?:[A-Za-z0-9_-]+[ \t]*\.[ \t]*){64}")


def toml_table(text: str, label: str, error: type[SdeditError]) -> dict[str, Any]:
    """The table that a TOML text holds. Raises `error`, with `label` as the name of its file."""
    # The readers of TOML take time by the square of the parts of a name, and no option has a dot in it.
    if deep := _DEEP_NAME.search(_ASIDE.sub(_covered, text)):
        name = shown(text[slice(*deep.span())], 43)
        raise error(f"{label}: is not TOML that is meant: '{name}' has too many dots for a name")
    # By name: the type checker runs for 3.10, where the one is missing, in environments where the other is.
    toml: Any = import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    try:
        return toml.loads(text)
    except (ValueError, RecursionError) as problem:
        words, _, _ = str(problem).partition("; use sys.")  # advice for who writes programs, of a number too long
        raise error(f"{label}: is not TOML: {shown(words, _MOST_SAID)}") from None


def _covered(found: re.Match[str]) -> str:
    """As much of what names are made of for a string, which may be part of one, and of blanks for a comment."""
    return (" " if found[0].startswith("#") else "x") * len(found[0])
