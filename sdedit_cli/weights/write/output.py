"""Files and folders that appear whole or not at all, and never in place of another."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from ...errors import OutputError, shown
from .safetensors import Item, Progress, cannot_write, verify, write_safetensors

_RESERVE = 1 << 20  # for headers and small files


@dataclass(frozen=True)
class OutputFile:
    """A file to be written: its place within the target ('': the target itself), and its tensors or its text."""

    name: str
    items: tuple[Item, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict[str, str])
    text: str | None = None


def write_files(target: Path, files: Sequence[OutputFile], progress: Progress | None = None) -> None:
    """Write all files beside the target, read them back, and only then give the target its name.

    Raises OutputError when the target exists, the disk is full, or what was written reads back differently.
    """
    refuse_existing(target)
    total = sum(item.nbytes for file in files for item in file.items)
    _check_space(target, total)
    with _staged(target) as stage:
        for file in files:
            _write(_within(stage, file), file, progress, target)
        for file in files:
            if file.items:
                verify(_within(stage, file), file.items, file.metadata, progress, told_as=target)


def refuse_existing(target: Path) -> None:
    """Raises OutputError when something has the target's name, or its folder is missing."""
    try:
        there = os.path.lexists(target) or bool(os.stat(target))
    except (FileNotFoundError, NotADirectoryError):
        there = False
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise OutputError(f"{shown(target, 160)}: cannot be written ({reason}); choose another place or name") from None
    if there:
        raise OutputError(f"{target}: exists and is not overwritten; remove it or give another name")
    folder = target.absolute().parent
    if not folder.is_dir():
        raise OutputError(f"{target}: the folder {target.parent} is not there; create it first")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(f"{target}: the folder {target.parent} is not writable; choose another place")


def _check_space(target: Path, total: int) -> None:
    free = shutil.disk_usage(target.absolute().parent).free
    if free < total + _RESERVE:
        raise OutputError(
            f"{target}: needs {_amount(total + _RESERVE)}, the disk has {_amount(free)} left; "
            "free some space, choose another place, or a smaller --dtype"
        )


def _amount(size: int) -> str:
    unit, word = next(((u, w) for u, w in ((1e9, "GB"), (1e6, "MB")) if size >= u), (1e3, "kB"))
    return f"{size / unit:.1f} {word}"


def _within(stage: Path, file: OutputFile) -> Path:
    return stage / file.name if file.name else stage


@contextmanager
def _staged(target: Path) -> Generator[Path]:
    """A name beside the target to write under; it becomes the target, or disappears when something goes wrong."""
    # Names may be at most 255 bytes long, and the random part must fit.
    stage = target.with_name(f".{target.name[:60]}.{uuid.uuid4().hex[:8]}.part")
    try:
        yield stage
        _publish(stage, target)
    finally:
        if stage.is_dir():
            shutil.rmtree(stage, ignore_errors=True)
        else:
            stage.unlink(missing_ok=True)
    _flush_folder(target.absolute().parent)


def _publish(stage: Path, target: Path) -> None:
    try:
        if stage.is_file():
            try:
                os.link(stage, target)  # unlike a rename, this never replaces what came there meanwhile
                return
            except FileExistsError:
                raise
            except OSError:
                pass  # the file system has no hard links
        refuse_existing(target)
        stage.rename(target)
    except FileExistsError:
        refuse_existing(target)
    except OSError as error:
        raise OutputError(f"{target}: cannot be given its name ({error.strerror or error})") from None


def _write(path: Path, file: OutputFile, progress: Progress | None, target: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if file.text is not None:
            with path.open("x", encoding="utf-8", newline="\n") as out:
                out.write(file.text)
                out.flush()
                os.fsync(out.fileno())
            return
    except OSError as error:
        raise cannot_write(target, error) from None
    write_safetensors(path, file.items, file.metadata, progress, told_as=target)


def _flush_folder(folder: Path) -> None:
    """Make the new name itself survive a power cut, where a folder can be flushed."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
