"""The memory of a batch of the built-in model while it runs through thousands of pictures of one step."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from .common.rows import OURS, Row
from .common.small import pictures


def run(given: argparse.Namespace) -> Iterator[Row]:
    jobs, dtype = 20 if given.quick else min(given.jobs, 2000), (given.dtype or ["fp32"])[0]
    folder, out = given.place / "soak", given.place / "soaked"
    pictures(folder, jobs)
    command = ["batch", str(folder), str(out), "-p", "a face", "--steps", "1", "--strength", "1", "--cfg-scale", "1"]
    command += ["--dtype", dtype, "--device", "cpu", "--json", "-q", "--seed-mode", "index"]
    process = subprocess.Popen([sys.executable, "-m", "sdedit_cli", *command], stdout=subprocess.PIPE)
    assert process.stdout is not None
    done, first, every = 0, 0.0, max(10, jobs // 10)
    for line in process.stdout:
        if json.loads(line)["event"] != "saved":
            continue
        done += 1
        if done == every // 2 or done % every == 0:
            status = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
            rss = int(next(one for one in status.splitlines() if one.startswith("VmRSS")).split()[1]) / 1e3
            first = first or rss
            yield Row(f"after {done:,} pictures, {dtype}", OURS, (rss,), "MB", also={"of the first": rss / first})
    process.wait()
