"""One process at a time: a lock that the system lets go of when its holder ends, however that comes about."""

from __future__ import annotations

import errno
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from .. import signals
from ..disk.own import open_own
from ..disk.whole import cannot_write
from ..errors import OutputError, shown

# What file systems say that know no locks: there is nobody to wait for.
_WITHOUT_LOCKS = (errno.ENOTSUP, errno.ENOSYS, errno.ENOLCK)
_MOST_BYTES = 1 << 20  # of what is read of a holder: a file of any size may lie there
_PAUSE = 0.2  # seconds between two looks at a lock that is held


@contextmanager
def locked(
    path: Path, *, shared: bool = False, wait: Callable[[str], object] | None = None
) -> Generator[None, None, None]:
    """Holds the lock at `path` within the block, `shared` with others that share it, where the system can do that.

    The file stays: who removes it could remove another one's.
    Raises OutputError, with the holder's process, when another holds it; with `wait` it is told so once, and this
    waits. A file of a holder that is dead locks nothing.
    """
    try:
        handle = open_own(path, os.O_RDWR)
    except OSError as problem:
        raise cannot_write(path, problem) from None
    try:
        told = False
        while not _taken(handle, shared):
            text = f"{path.parent.parent}: another sdedit is at work here ({_holder(path)})"
            if wait is None:
                raise OutputError(f"{text}; let it end, or wait for it with --wait")
            if not told:
                wait(f"{text}; waiting for it")
                told = True
            signals.check()
            time.sleep(_PAUSE)
        with suppress(OSError):  # on a full disk the lock holds, and does not say whose it is
            os.truncate(handle, 0)
            os.write(handle, json.dumps({"pid": os.getpid(), "host": platform.node()}).encode())
        try:
            yield
        finally:  # by the holder alone: who is refused leaves its name for the next one
            with suppress(OSError):
                os.truncate(handle, 0)
    finally:
        os.close(handle)


@contextmanager
def locked_folder(
    folder: Path, shard: tuple[int, int] | None, wait: Callable[[str], object] | None = None
) -> Generator[None, None, None]:
    """Holds the lock of a batch's own folder, or of a part of the batch: parts of one division work beside each other,
    and never beside the whole or a part of another division. Raises OutputError."""
    try:
        if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
            raise OutputError(f"{folder}: is no folder of its own but a link or a file; move it away to begin anew")
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise cannot_write(folder, problem) from None
    with ExitStack() as held:
        held.enter_context(locked(folder / "lock", shared=shard is not None, wait=wait))
        if shard is not None:
            _without_others(folder, shard[1], wait)
            held.enter_context(locked(folder / f"lock-{shard[0]}-of-{shard[1]}", wait=wait))
            _without_others(folder, shard[1], None)  # who came meanwhile; both could wait for each other for ever
        yield


def _without_others(folder: Path, parts: int, wait: Callable[[str], object] | None) -> None:
    """Raises OutputError, or waits, while a part of another division is at work."""
    for path in sorted(folder.glob("lock-*-of-*")):
        if not path.name.endswith(f"-of-{parts}"):
            with locked(path, wait=wait):
                pass


def _taken(handle: int, shared: bool) -> bool:
    """Whether the lock is ours now."""
    try:
        if sys.platform == "win32":
            import msvcrt

            if shared:
                return True

            # Far behind the text, which others are to read.
            os.lseek(handle, 1 << 20, os.SEEK_SET)
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
            os.lseek(handle, 0, os.SEEK_SET)
        else:
            import fcntl

            fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError as problem:
        return problem.errno in _WITHOUT_LOCKS
    return True


def _holder(path: Path) -> str:
    try:
        with path.open("rb") as file:
            told = json.loads(file.read(_MOST_BYTES))
        return f"process {shown(int(told['pid']))} on {shown(told['host'])}"
    except (OSError, ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return "its process is not known"
