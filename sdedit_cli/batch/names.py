"""Names that file systems hold: what makes a name too long is taken from its stem."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable

LONGEST = 255  # bytes, on every file system in common use
_SHORTEST = 20


def fitting(stem: str, name_with: Callable[[str], str]) -> str:
    """The path that `name_with` makes of `stem`, or of a shortened stem where its last part would be too long.

    A shortened stem ends in '~' and a hash of the whole one, so that long names of one beginning stay apart. A name
    that would be too long even with a short stem comes back as it is, for the system to refuse.
    """
    whole = name_with(stem)
    over = len(os.fsencode(os.path.basename(whole))) - LONGEST
    if over <= 0:
        return whole
    mark = "~" + hashlib.sha256(os.fsencode(stem)).hexdigest()[:6]
    kept = len(os.fsencode(stem)) - over - len(mark)
    short = name_with(_cut(stem, kept) + mark) if kept >= _SHORTEST else whole
    return short if len(os.fsencode(os.path.basename(short))) <= LONGEST else whole


def _cut(text: str, size: int) -> str:
    """The longest beginning of a text that takes at most `size` bytes in a file's name."""
    while len(os.fsencode(text)) > size:
        text = text[:-1]
    return text
