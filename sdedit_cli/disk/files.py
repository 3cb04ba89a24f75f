"""Files written whole or not at all, and what happens when the name is taken."""

from __future__ import annotations

import os
import secrets
import sys
from pathlib import Path

from ..errors import OutputError
from ..signals import held

_MAX_SHOWN = 160
ON_EXISTS = ("fail", "skip", "overwrite", "suffix")


def settle(target: Path, on_exists: str, taken: set[Path]) -> Path | None:
    """The path to write for `target` under a policy; None to skip it. Raises OutputError when it exists and must not.

    `taken` are the paths promised to earlier pictures of this run.
    """
    _check_name(target)
    if target.is_dir():
        raise OutputError(f"{target}: is a folder; end it with '/' to write into it")
    if is_special(target) or not (os.path.lexists(target) or target in taken) or on_exists == "overwrite":
        return target
    if on_exists == "skip":
        return None
    if on_exists == "fail":
        raise OutputError(f"{target}: exists already; choose another -o, or --on-exists overwrite, skip or suffix")
    numbered = (target.with_name(f"{target.stem}-{number}{target.suffix}") for number in range(2, 1_000_000))
    free = next(path for path in numbered if not os.path.lexists(path) and path not in taken)
    _check_name(free)
    return free


def shortened(name: object) -> str:
    """`name` for a message, the middle of a very long one left out."""
    text = str(name)
    return text if len(text) <= _MAX_SHOWN else f"{text[:60]}...{text[-60:]}"


def _check_name(target: Path) -> None:
    try:
        os.lstat(target)
    except (FileNotFoundError, NotADirectoryError):
        pass  # what is not there can be made, or check_folder says why not
    except OSError as problem:
        raise OutputError(
            f"{shortened(target)}: cannot be written ({problem.strerror}); choose another place or name with -o"
        ) from None


def is_special(target: Path) -> bool:
    """Whether `target` is a device or a pipe, which is written in place."""
    return target.exists() and not target.is_file() and not target.is_dir()


def check_folder(folder: Path) -> None:
    """Raises OutputError when nothing could be written into `folder`, which need not exist yet."""
    _check_name(folder)
    existing = next(p for p in (folder, *folder.absolute().parents) if p.exists())
    if not existing.is_dir():
        raise OutputError(f"{folder}: cannot be a folder, as {existing} is a file")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise OutputError(f"{existing}: is not writable; choose another place with -o")


def write_whole(target: Path, data: bytes, *, replace: bool) -> None:
    """Writes `data` so that `target` is at every moment absent, old, or complete. Raises OutputError.

    Signals wait until it is done. Without `replace` a file that turned up meanwhile is left alone, with an error.
    """
    try:
        with held():
            if is_special(target):
                target.write_bytes(data)
                return
            target.parent.mkdir(parents=True, exist_ok=True)
            # A link stays a link: its file is what gets replaced.
            _place(Path(os.path.realpath(target)) if target.is_symlink() else target, data, replace)
    except FileExistsError:
        raise OutputError(f"{target}: was created by another program meanwhile; it is left as it is") from None
    except OSError as problem:
        raise OutputError(
            f"{target}: cannot be written ({problem.strerror or problem}); nothing was left behind"
        ) from None


def _place(target: Path, data: bytes, replace: bool) -> None:
    # Names may be at most 255 bytes long, and the random part must fit.
    temporary = target.with_name(f".{target.name[:60]}.{secrets.token_hex(6)}.tmp")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if replace:
            os.replace(temporary, target)
        else:
            _move_new(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(target.parent)


def _move_new(temporary: Path, target: Path) -> None:
    if sys.platform == "win32":
        os.rename(temporary, target)
        return
    try:
        os.link(temporary, target)
    except FileExistsError:
        raise
    except OSError:
        # File systems without hard links: the moment between the two calls cannot be closed there.
        if target.exists():
            raise FileExistsError(target) from None
        os.replace(temporary, target)
        return
    temporary.unlink()


def _sync_folder(folder: Path) -> None:
    if sys.platform == "win32":
        return
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    except OSError:
        pass  # some network file systems refuse this; the file itself is synced
    finally:
        os.close(handle)
