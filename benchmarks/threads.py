"""What waiting threads cost: an edit with threads that spin, sleep, or mind who else computes, a core busy or not.

The wall time of a whole `sdedit run` (64 px, 25 steps, the built-in model). All of one number of threads must give the
same bytes: `bytes` begins their hash.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from itertools import product
from pathlib import Path

from sdedit_cli.waiting import LOOKS_VARIABLE, WAIT_VARIABLE

from .common.children import ROOT, Answer
from .common.rows import Row
from .common.turns import busy, turns, values

DRAWING = ROOT / "presets" / "strokes" / "apple.png"
POLICIES = {
    "active": {"OMP_WAIT_POLICY": "active"},
    "passive": {"OMP_WAIT_POLICY": "passive"},
    "minding others": {},
}
WORDS = ["-p", "3d emoji of a red apple", "--seed", "1", "--strength", "0.6", "--cfg-scale", "4", "-q"]


def run(given: argparse.Namespace) -> Iterator[Row]:
    cores = os.cpu_count() or 1
    rounds, steps = (1, 2) if given.quick else (given.rounds or 5, 25)
    kinds = product((0, 1), POLICIES, sorted({1, 2, 4, cores} & set(range(1, cores + 1))))
    asks = {
        f"{'a core busy' if others else 'idle'}, {threads} threads|{policy}": partial(
            edit, given.place, steps, others, policy, threads
        )
        for others, policy, threads in kinds
    }
    for name, answers in turns(asks, rounds).items():
        what, policy = name.split("|")
        yield Row(what, policy, values(answers), also={"bytes": " ".join(sorted({said["bytes"] for said in answers}))})


def edit(folder: Path, steps: int, others: int, policy: str, threads: int) -> Answer:
    """The seconds of one run, and the hash of what it wrote."""
    out = folder / "threads.png"
    variables = {
        name: value
        for name, value in os.environ.items()
        if name not in ("OMP_NUM_THREADS", WAIT_VARIABLE, LOOKS_VARIABLE)
    }
    command = [sys.executable, "-m", "sdedit_cli", "run", str(DRAWING), "-o", str(out), *WORDS, "--steps", str(steps)]
    command += ["--threads", str(threads), "--on-exists", "overwrite"]
    with busy(others):
        start = time.perf_counter()
        subprocess.run(command, env={**variables, **POLICIES[policy]}, check=True)
        seconds = time.perf_counter() - start
    return {"seconds": seconds, "bytes": hashlib.sha256(out.read_bytes()).hexdigest()[:12]}
