"""How much more memory this process may take: what the system has left, and what its control group has."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

# Where the two forms of Linux' control groups say what a group may have, what it has, and what of that is of files that
# nobody has read lately.
_GROUPS = {
    "": ("sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"),
    "memory": ("sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}


def free_memory(root: Path = Path("/")) -> int:
    """Bytes; 0 where the system does not say (others than Linux)."""
    try:
        lines = (root / "proc/meminfo").read_text(encoding="ascii").splitlines()
        available = next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, ValueError, IndexError, StopIteration):
        return 0
    return max(0, min([available, *_left_to_groups(root)]))


def _left_to_groups(root: Path) -> Iterator[int]:
    """What is left to the control group of this process, and to those that it is in."""
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return
    for _, controllers, path in (line.split(":", 2) for line in lines if line.count(":") >= 2):
        for controller in _GROUPS.keys() & set(controllers.split(",")):
            place, most, now, files = _GROUPS[controller]
            group = Path(path.lstrip("/"))
            for folder in (root / place / part for part in (group, *group.parents)):
                try:
                    taken = _number(folder / now) - _number(folder / "memory.stat", files)
                    yield _number(folder / most) - taken
                except (OSError, ValueError):  # no limit, or a group that is seen from within as the root
                    continue


def _number(file: Path, name: str | None = None) -> int:
    """The number in a file, or that of a name in a table (0 where it has none). Raises OSError and ValueError."""
    text = file.read_text(encoding="ascii")
    return int(text if name is None else dict(line.split(" ", 1) for line in text.splitlines()).get(name, 0))
