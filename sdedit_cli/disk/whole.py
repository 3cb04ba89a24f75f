"""Files and folders that appear whole or not at all: written beside the target, flushed, then given its name."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from ..errors import OutputError, shortened
from ..signals import held, released
from .checks import is_special
from .leftovers import begun, ended

Still = Callable[[Path], bool]

_PERMISSIONS = 0o777  # of all, without the bits that let programs run as somebody else


class TakenError(OutputError):
    """A name has something else by now: it was free, or had what was ours to replace."""


class Stage:
    """Where `target`, a file or a folder, is written before it has its name.

    A name is a path within the target, with '/' between folders; '' is the target itself, which makes it a file.
    """

    def __init__(self, target: Path, root: Path) -> None:
        self.target = target
        self.root = root

    def path(self, name: str = "") -> Path:
        """Where a file of the target is for now, to read it back."""
        return self.root / name if name else self.root

    @contextmanager
    def open(self, name: str = "") -> Generator[BinaryIO]:
        """A new file to write to, flushed to the disk at the end. Raises OutputError when the disk refuses."""
        path = self.path(name)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("xb") as file:
                _as_readable_as(self.target / name, path)
                yield file
                file.flush()
                os.fsync(file.fileno())
        except OSError as problem:
            raise cannot_write(self.target, problem) from None

    def write_text(self, name: str, text: str) -> None:
        """Writes a file of UTF-8. Raises OutputError."""
        with self.open(name) as file:
            file.write(text.encode())


@contextmanager
def staged(
    target: Path, *, replace: bool = False, still: Still | None = None, placed: Callable[[], None] | None = None
) -> Generator[Stage]:
    """A stage beside `target`. It becomes the target when the block ends well, and disappears otherwise.

    Without `replace` the target must be new (TakenError). With it a file takes the place of the old one, where that is
    `still` what may be replaced (else TakenError), and the files of a folder take theirs one by one: other files there
    stay. Missing folders above the target are made. Signals end the block in order, and wait while names are given and
    while `placed`, called once they are, does its work. Raises OutputError.
    """
    # A link stays a link: what it points to gets replaced.
    real = Path(os.path.realpath(target)) if target.is_symlink() else target
    stage = Stage(target, begun(real))
    try:
        yield stage
        with held():
            _publish(stage, real, replace, still)
            if placed:
                placed()
            ended(stage.root)
    finally:
        with held():
            ended(stage.root)


def write_bytes(
    target: Path,
    data: bytes,
    *,
    replace: bool = False,
    still: Still | None = None,
    placed: Callable[[], None] | None = None,
) -> None:
    """Writes a file so that `target` is at every moment absent, old, or complete; devices and pipes in place, but
    where it is asked whether something is `still` there.

    `placed` is called once the file is there. Signals wait until both are done, unless nobody reads the pipe that is
    written to. Raises OutputError, TakenError where another program was first.
    """
    with held():
        try:
            if still is None and is_special(target):
                with released():
                    target.write_bytes(data)
                if placed:
                    placed()
                return
        except OSError as problem:
            raise cannot_write(target, problem) from None
        with staged(target, replace=replace, still=still, placed=placed) as stage, stage.open() as file:
            file.write(data)


def cannot_write(target: Path, problem: OSError) -> OutputError:
    """The error that a disk's refusal to hold `target` is for people."""
    return OutputError(
        f"{shortened(target)}: cannot be written ({problem.strerror or problem}); nothing was left behind; "
        "check free space and permissions, or choose another place"
    )


def _as_readable_as(old: Path, new: Path) -> None:
    """Gives a file the permissions of the one that it will replace, before it has content: that may be private."""
    if sys.platform == "win32":
        return
    with suppress(OSError):  # there is none, or the file system has no permissions
        new.chmod(old.stat().st_mode & _PERMISSIONS)


def _publish(stage: Stage, target: Path, replace: bool, still: Still | None) -> None:
    if still is not None:
        replace = replace and os.path.lexists(stage.target)
        if replace and not still(stage.target):
            raise TakenError(f"{stage.target}: another program wrote to it meanwhile; it is left as it is")
    try:
        if stage.root.is_dir() and replace:
            target.mkdir(exist_ok=True)
            for path in sorted(filter(Path.is_file, stage.root.rglob("*")), key=_last_what_speaks_of_others):
                final = target / path.relative_to(stage.root)
                final.parent.mkdir(parents=True, exist_ok=True)
                os.replace(path, final)
                _sync_folder(final.parent)
        elif replace:
            os.replace(stage.root, target)
        else:
            _move_new(stage.root, target)
        _sync_folder(target.absolute().parent)
    except FileExistsError:
        raise TakenError(
            f"{stage.target}: exists now, it was created by another program meanwhile; it is left as it is"
        ) from None
    except OSError as problem:
        raise cannot_write(stage.target, problem) from None


def _last_what_speaks_of_others(path: Path) -> tuple[int, bool, Path]:
    """Orders weights before the index of their shards, and components before the index of the model."""
    return -len(path.parts), path.suffix == ".json", path


def _move_new(stage: Path, target: Path) -> None:
    if sys.platform == "win32":
        os.rename(stage, target)
        return
    if stage.is_file():
        try:
            os.link(stage, target)  # unlike a rename, this never replaces what came there meanwhile
            return
        except FileExistsError:
            raise
        except OSError:
            pass  # the file system has no hard links
    # Nothing closes the moment between these two calls.
    if os.path.lexists(target):
        raise FileExistsError(target)
    os.rename(stage, target)


def _sync_folder(folder: Path) -> None:
    """Makes new names survive a power cut, where a folder can be flushed."""
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
