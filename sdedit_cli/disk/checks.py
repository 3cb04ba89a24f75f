"""What can be said of a target before anything is written: its name, its folder, the room on its disk."""

from __future__ import annotations

import errno
import math
import os
import stat
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from ..errors import OutputError, shortened
from .leftovers import stage_name
from .sizes import size_text

_RESERVE = 1 << 20  # for headers and small files
_OF_THE_KERNEL = ("/proc/", "/sys/")
# Bytes that a name and a path may have on every system and file system; longer ones are asked for.
_SHORT_NAME, _SHORT_PATH = 143, 900
_NO_FILES = {stat.S_IFCHR: "a device", stat.S_IFBLK: "a device", stat.S_IFSOCK: "a socket"}


def check_name(target: Path) -> None:
    """Raises OutputError when no file can have this name, or whether one has it may not be known."""
    try:
        # What is not there can be made, or the check of its folder says why not.
        with suppress(FileNotFoundError, NotADirectoryError):
            os.stat(target)
        if _is_too_long(target):  # the system says so of a folder that is there alone
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
    except (OSError, ValueError) as problem:
        reason = getattr(problem, "strerror", None) or problem
        raise OutputError(f"{shortened(target)}: cannot be written ({reason}); choose another place or name") from None


def _is_too_long(target: Path) -> bool:
    """Whether a part of it, or all of it under the name that it is written under first, is longer than may be."""
    path = os.fsencode(target)
    longest = max(map(len, path.split(os.sep.encode())))
    if longest <= _SHORT_NAME and len(path) <= _SHORT_PATH:
        return False
    limits = _limits(target.parent)
    if limits is None:
        return False
    most, most_of_all = limits
    beside = len(os.fsencode(target.with_name(stage_name(target.name))))
    return longest > most or max(len(path), beside) >= most_of_all  # which counts the byte that ends it


@lru_cache(maxsize=64)
def _limits(folder: Path) -> tuple[float, float] | None:
    """The longest name, and the longest path with its end, where a folder is or would be, in bytes; None where the
    system does not tell, as Windows, which counts otherwise: it says so when it comes to it."""
    if not hasattr(os, "pathconf"):
        return None
    there = next((one for one in (folder, *folder.absolute().parents) if os.path.lexists(one)), folder)
    try:
        most, most_of_all = os.pathconf(there, "PC_NAME_MAX"), os.pathconf(there, "PC_PATH_MAX")
    except (OSError, ValueError):
        return None
    return (most if most > 0 else math.inf), (most_of_all if most_of_all > 0 else math.inf)


def is_special(target: Path) -> bool:
    """Whether `target` is a device or a pipe, which is written in place."""
    return target.exists() and not target.is_file() and not target.is_dir()


def endless(status: os.stat_result, path: Path | str | None = None) -> str:
    """What it is, in words, whose bytes may never end or never come, and '' for files, folders and pipes.

    The kernel's files look like any other and may wait for ever; only their `path` tells. /dev/null ends at once.
    """
    words = _NO_FILES.get(stat.S_IFMT(status.st_mode), "")
    if words:
        return "" if _is_null(status) else words
    if path is None or not stat.S_ISREG(status.st_mode):
        return ""
    return "a file of the kernel" if os.path.realpath(path).startswith(_OF_THE_KERNEL) else ""


def endless_or_pipe(status: os.stat_result, path: Path | str | None = None) -> str:
    """As `endless`, for what is read more than once, or might be waited for in vain: of a pipe too."""
    return "a pipe" if stat.S_ISFIFO(status.st_mode) else endless(status, path)


def _is_null(status: os.stat_result) -> bool:
    try:
        return os.path.samestat(status, os.stat(os.devnull))
    except OSError:
        return False


def check_folder(folder: Path, flag: str) -> None:
    """Raises OutputError when nothing could be written into `folder`, which need not exist yet; `flag` is the option
    that names what lies there."""
    check_name(folder)
    existing = next(p for p in (folder, *folder.parents) if p.exists())
    if not existing.is_dir():
        raise OutputError(f"{folder}: cannot be a folder, as {existing} is a file; choose another place with {flag}")
    if not os.access(existing, os.W_OK | os.X_OK):
        named = existing if existing.name not in ("", os.pardir) else existing.resolve()  # '.' tells nobody where
        raise OutputError(f"{named}: is not writable; choose another place with {flag}")


def refuse_existing(target: Path) -> None:
    """Raises OutputError when something has the target's name, or its folder is missing or closed."""
    check_name(target)
    if os.path.lexists(target):
        raise OutputError(f"{target}: exists and is not overwritten; remove it or give another name")
    folder = target.absolute().parent
    if not folder.is_dir():
        raise OutputError(f"{target}: the folder {target.parent} is not there; create it first")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(f"{target}: the folder {target.parent} is not writable; choose another place")


def check_space(target: Path, size: int) -> None:
    """Raises OutputError when the disk under `target`, whose folder exists, has no room for `size` bytes."""
    import shutil  # here, as the compressors that come with it cost every start some milliseconds

    free = shutil.disk_usage(target.absolute().parent).free
    if free < size + _RESERVE:
        raise OutputError(
            f"{target}: needs {size_text(size + _RESERVE)}, the disk has {size_text(free)} left; "
            "free some space, choose another place, or a smaller --dtype"
        )
