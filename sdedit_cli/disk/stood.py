"""What had a name when it was looked at: who replaces it later can tell whether somebody wrote there meanwhile."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from .hashes import file_hash
from .stamps import Stamp, stamp_of, stamped


@dataclass(frozen=True, slots=True)
class Stood:
    """What `stamps_of` said of a name, and the hash of the file that it led to, '' for none."""

    stamps: tuple[Stamp, ...] = ()
    sha256: str = ""

    def still(self, path: Path) -> bool:
        """Whether a name has what it had, by its stamps, or where they are others, by the content: who lists, links or
        backs up a file changes the times of it alone."""
        now = stamps_of(path)
        if now == self.stamps:
            return True
        if len(now) != len(self.stamps) or now[-1][0] != self.stamps[-1][0]:
            return False
        try:
            return file_hash(path) == self.sha256
        except OSError:
            return False


NOTHING = Stood()


def stamps_of(path: Path) -> tuple[Stamp, ...]:
    """The stamp of what has a name, nothing where nothing has it; of a link its own, then that of where it leads."""
    try:
        status = os.lstat(path)
    except OSError:
        return ()
    return (stamped(status), stamp_of(path)) if stat.S_ISLNK(status.st_mode) else (stamped(status),)
