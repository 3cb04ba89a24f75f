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
STAT = "anon 1000\ninactive_file 500\ntotal_inactive_file 3000\n"


def group(path: str, most: str, now: str, stat: str = "") -> dict[str, str]:
    place = f"sys/fs/cgroup/{path}memory"
    return {f"{place}.max": f"{most}\n", f"{place}.current": f"{now}\n", f"{place}.stat": stat}


def old_group(path: str, most: str, now: str) -> dict[str, str]:
    place = f"sys/fs/cgroup/memory/{path}memory"
    return {f"{place}.limit_in_bytes": most, f"{place}.usage_in_bytes": now, f"{place}.stat": STAT}


CASES = {
    "no limit": (SYSTEM, 8 << 20),
    "a group without a limit": (NEW | group("user/job/", "max", "5"), 8 << 20),
    "a group above": (NEW | group("user/", "3000000", "1000000"), 2_000_000),
    "a container, which sees its group as the root": (NEW | group("", "5000000", "4000000"), 1_000_000),
    "files that can go": (NEW | group("", "5000000", "4000000", STAT), 1_000_500),
    "a group that has too much": (NEW | group("user/", "1", "2"), 0),
    "the old form": (
        OLD | old_group("job/", "7000000", "1000000") | old_group("", "9223372036854771712", "9"),
        6_003_000,
    ),
    "another system": ({}, 0),
    "a file of another form": ({"proc/meminfo": "MemAvailable:\n"}, 0),
    "a table of another form": (NEW | group("", "5000000", "4000000", "anon\n"), 8 << 20),
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
