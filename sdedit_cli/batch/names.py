"""Names of results: those that a run gives by itself, and those that file systems hold."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable

from ..pictures.endings import FORMATS

LONGEST = 255  # bytes, on every file system in common use
_SHORTEST = 20
MARKS = (".edited", ".sweep")
# What a run without -o writes beside its input, numbered where there are several.
_ENDINGS = "|".join(map(re.escape, FORMATS.values()))
RESULT = re.compile(rf"(.+)(?:{'|'.join(map(re.escape, MARKS))})(-\d+)?(?:{_ENDINGS})", re.I | re.S)


def parted(name: str) -> tuple[str, str, str]:
    """The folder of a name such as 'a/b.png' ('.' for none), its last part, and that without its ending.

    What a name begins or ends with is no ending's dot.
    """
    folder, _, last = name.rpartition("/")
    dot = last.rfind(".")
    return folder or ".", last, last[:dot] if 0 < dot < len(last) - 1 else last


def fitting(stem: str, name_with: Callable[[str], str]) -> str:
    """The path that `name_with` makes of `stem`, or of a shortened stem where its last part would be too long.

    A shortened stem ends in '~' and a hash of the whole one, so that long names of one beginning stay apart. A name
    that would be too long even with a short stem comes back as it is, for the system to refuse.
    """
    whole = name_with(stem)
    over = len(os.fsencode(os.path.basename(whole))) - LONGEST
    if over <= 0:
        return whole
    mark = mark_of(stem)
    kept = len(os.fsencode(stem)) - over - len(mark)
    short = name_with(_cut(stem, kept) + mark) if kept >= _SHORTEST else whole
    return short if len(os.fsencode(os.path.basename(short))) <= LONGEST else whole


def _cut(text: str, size: int) -> str:
    """The longest beginning of a text that takes at most `size` bytes in a file's name."""
    while len(os.fsencode(text)) > size:
        text = text[:-1]
    return text


def clipped(text: str, most: int) -> str:
    """The text, or its beginning with '~' and a hash of the whole, in at most `most` bytes."""
    return text if len(os.fsencode(text)) <= most else _cut(text, most - len(mark_of(text))) + mark_of(text)


def mark_of(text: str) -> str:
    """'~' and the beginning of a hash, which tells texts apart that a name cannot."""
    return "~" + hashlib.sha256(os.fsencode(text)).hexdigest()[:6]
