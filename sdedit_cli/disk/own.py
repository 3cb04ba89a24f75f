"""Files of our own in a folder that others may fill, such as a checkout: a lock, a journal. What lies there in their
place, such as a link to somebody's file, is not opened."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from ..errors import OutputError


def check_own(path: Path) -> None:
    """Raises OutputError where something else than a plain file of one name has the name."""
    try:
        status = os.lstat(path)
    except OSError:  # nothing has it, or who opens it says why not
        return
    if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
        raise OutputError(f"{path}: is no file of its own but a link, a pipe or a folder; move it away to begin anew")


def open_own(path: Path, flags: int) -> int:
    """The handle of a file of our own, made where it is not there. Raises OutputError as `check_own`, and OSError."""
    check_own(path)
    # Where the system can tell, not even what came meanwhile.
    return os.open(path, flags | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0), 0o666)
