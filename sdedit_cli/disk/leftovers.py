"""Temporary names: they say whose they are, so that what a killed process left can be told from work in progress.

    .NAME.MACHINE-PID-RANDOM.tmp

MACHINE stands for the machine and its table of processes: folders are shared between machines and containers, and a
number that means no process here may be a living one there.
"""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import re
import secrets
import shutil
import sys
from contextlib import suppress
from pathlib import Path

_NAME = re.compile(r"\..*\.([0-9a-f]{8})-(\d{1,10})-[0-9a-f]{12}\.tmp", re.ASCII | re.DOTALL)
_unfinished: set[Path] = set()
"""What this process is writing, under temporary names."""


def stage_name(name: str) -> str:
    """A temporary name for a file or folder to be called `name`; short enough wherever a name of 255 bytes is."""
    return f".{name[:40]}.{_machine()}-{os.getpid()}-{secrets.token_hex(6)}.tmp"


def begun(target: Path) -> Path:
    """Where a file or folder is written before it has the name of `target`: beside it. Until `ended`, work goes on."""
    stage = target.with_name(stage_name(target.name))
    _unfinished.add(stage)
    return stage


def ended(stage: Path) -> None:
    """Removes what is left of a stage; nobody works on it any more."""
    removed(stage)
    _unfinished.discard(stage)


def abandon() -> None:
    """Removes what is still unfinished when a process ends: a signal can come between a block and its way out."""
    for stage in sorted(_unfinished):
        ended(stage)


def clear_leftovers(folder: Path) -> list[str]:
    """Removes what processes of this machine that are no more left unfinished in a folder; the names of it."""
    try:
        names = [name for name in os.listdir(folder) if name.endswith(".tmp")]
    except OSError:
        return []  # what may not be looked at is not ours to clear
    return [name for name in sorted(names) if _is_dead(name) and removed(folder / name)]


def _is_dead(name: str) -> bool:
    found = _NAME.fullmatch(name)
    if found is None or found[1] != _machine() or sys.platform == "win32":
        return False
    process = int(found[2])
    if process == os.getpid():
        return name not in {stage.name for stage in _unfinished}  # containers give every run the same number
    try:
        os.kill(process, 0)  # asks, and sends nothing
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        return False
    return False


def removed(path: Path) -> bool:
    """Removes a file, a link or a whole folder; whether it is gone."""
    with suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()
    return not os.path.lexists(path)


@functools.cache
def _machine() -> str:
    facts = [platform.node()]
    with suppress(OSError):
        facts.append(Path("/etc/machine-id").read_text("ascii", "replace"))
    with suppress(OSError):
        facts.append(os.readlink("/proc/self/ns/pid"))
    return hashlib.sha256("\n".join(facts).encode("utf-8", "replace")).hexdigest()[:8]
