"""TOML as a table of values."""

from __future__ import annotations

import re
import sys
from importlib import import_module
from typing import Any

from ..errors import SdeditError

# Looked for from the beginnings of words alone: tried from each letter, a long word would take time by its square.
_DEEP_NAME = re.compile(r"""(?<![A-Za-z0-9_-])(?:(?:[A-Za-z0-9_-]+|""|'')[ \t]*\.[ \t]*){64}""")


def toml_table(text: str, label: str, error: type[SdeditError]) -> dict[str, Any]:
    """The table that a TOML text holds. Raises `error`, with `label` as the name of its file."""
    # The readers of TOML take time by the square of the parts of a name, and no option has a dot in it.
    deep = _DEEP_NAME.search(text)
    if deep:
        raise error(f"{label}: is not TOML that is meant: '{deep[0][:40]}...' has too many dots for a name")
    # By name: the type checker runs for 3.10, where the one is missing, in environments where the other is.
    toml: Any = import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    try:
        return toml.loads(text)
    except (ValueError, RecursionError) as problem:
        words, _, _ = str(problem).partition("; use sys.")  # advice for who writes programs, of a number too long
        raise error(f"{label}: is not TOML: {words}") from None
