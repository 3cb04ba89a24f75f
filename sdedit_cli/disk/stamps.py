"""By what a file is taken for the one that was seen before, without being read."""

from __future__ import annotations

import os
from pathlib import Path

Stamp = tuple[int, int, int]
NOWHERE: Stamp = (0, 0, 0)
"""That of what is not there."""


def stamp_of(path: Path | str) -> Stamp:
    """The stamp of a file, NOWHERE for none."""
    try:
        return stamped(os.stat(path))
    except OSError:
        return NOWHERE


def stamped(status: os.stat_result) -> Stamp:
    """Size, time of the contents, and time of the last change of all that the system says of the file.

    Programs set the second as they like, and archives and builds do; nobody sets the third (Windows, which has none,
    says when the file was made).
    """
    return (status.st_size, status.st_mtime_ns, status.st_ctime_ns)
