"""What memory a process may still take, of files as Linux writes them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from sdedit_cli.runtime.free_memory import free_memory

MEMINFO = "MemTotal:       16384 kB\nMemFree:         1024 kB\nMemAvailable:    8192 kB\n"
SYSTEM = {"proc/meminfo": MEMINFO}
NEW = {**SYSTEM, "proc/self/cgroup": "0::/user/job\n"}
OLD = {**SYSTEM, "proc/self/cgroup": "5:devices:/\n4:cpu,memory:/job\n0::/\n"}
LEAST = {"sys/fs/cgroup/user/memory.max": "3000000", "sys/fs/cgroup/user/memory.current": "1000000"}
CASES = {
    "no limit": (SYSTEM, 8 << 20),
    "a group without a limit": (NEW | {"sys/fs/cgroup/user/job/memory.max": "max\n"}, 8 << 20),
    "a group above": (NEW | LEAST, 2_000_000),
    "a container, which sees its group as the root": (
        NEW | {"sys/fs/cgroup/memory.max": "5000000\n", "sys/fs/cgroup/memory.current": "4000000\n"},
        1_000_000,
    ),
    "a group that has too much": (
        NEW | {"sys/fs/cgroup/user/memory.max": "1\n", "sys/fs/cgroup/user/memory.current": "2\n"},
        0,
    ),
    "the old form": (
        OLD
        | {
            "sys/fs/cgroup/memory/job/memory.limit_in_bytes": "7000000\n",
            "sys/fs/cgroup/memory/job/memory.usage_in_bytes": "1000000\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
            "sys/fs/cgroup/memory/memory.usage_in_bytes": "1000000\n",
        },
        6_000_000,
    ),
    "another system": ({}, 0),
    "a file of another form": ({"proc/meminfo": "MemAvailable:\n"}, 0),
}


@pytest.mark.parametrize("name", CASES)
def test_the_least_of_what_is_left(name: str, tmp_path: Path) -> None:
    files, wanted = CASES[name]
    for path, text in files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text, encoding="ascii")
    assert free_memory(tmp_path) == wanted


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="others do not say")
def test_of_this_system() -> None:
    assert free_memory() > 0
