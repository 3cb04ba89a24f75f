"""Glob patterns on names within a folder: `*` and `?` within one part of a path, `**` for any number of parts."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from fnmatch import fnmatchcase

ANY_FOLDERS = "**"


def is_pattern(source: str, base: str = "") -> bool:
    """Whether it is a glob pattern: a file may have brackets in its name, and what exists is never one."""
    return glob.has_magic(source) and not os.path.lexists(os.path.join(base, source))


def parts_of(pattern: str) -> tuple[str, ...]:
    """The parts of a pattern as typed; one without a '/' before its end is of a name at any depth."""
    parts = tuple(part for part in pattern.split("/") if part not in ("", "."))
    return parts if "/" in pattern.rstrip("/") else (ANY_FOLDERS, *parts)


def fits(name: str, pattern: Sequence[str]) -> bool:
    """Whether a whole name is met by the parts of a pattern, capitals told from small letters on every system."""
    return len(pattern) in reached(name.split("/"), pattern)


def reached(parts: Sequence[str], pattern: Sequence[str]) -> set[int]:
    """How many parts of the pattern the given ones may have used up; none where no name could begin with them.

    The work is bounded by the parts of both: all ways of reading a `**` are followed at once.
    """
    places = _through({0}, pattern)
    for part in parts:
        places = {place + (pattern[place] != ANY_FOLDERS) for place in places if _takes(pattern, place, part)}
        places = _through(places, pattern)
    return places


def _takes(pattern: Sequence[str], place: int, part: str) -> bool:
    return place < len(pattern) and (pattern[place] == ANY_FOLDERS or fnmatchcase(part, pattern[place]))


def _through(places: set[int], pattern: Sequence[str]) -> set[int]:
    """The places, and those behind a `**` that stands for no folder at all."""
    found = set(places)
    for place in range(len(pattern)):
        if place in found and pattern[place] == ANY_FOLDERS:
            found.add(place + 1)
    return found
