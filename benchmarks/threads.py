"""What waiting threads cost: an edit with OMP_WAIT_POLICY active and passive, a core busy or not.

    python benchmarks/threads.py [ROUNDS]

Prints the median wall time of a whole `sdedit run` (64 px, 25 steps, the built-in model). The kinds take turns, so that
a busy moment of the machine hits all of them. All of one number of threads must give the same bytes.
"""

from __future__ import annotations

import hashlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from itertools import product
from pathlib import Path

DRAWING = Path(__file__).parents[1] / "presets" / "strokes" / "apple.png"
WORDS = ["-p", "3d emoji of a red apple", "--seed", "1", "--steps", "25", "--strength", "0.6", "--cfg-scale", "4", "-q"]


@contextmanager
def busy(cores: int) -> Generator[None, None, None]:
    """Within it, so many other processes want a core each."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(cores)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def edit(folder: Path, policy: str, threads: int) -> tuple[float, str]:
    """The seconds of one run, and the hash of what it wrote."""
    out = folder / "out.png"
    out.unlink(missing_ok=True)
    variables = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    command = [sys.executable, "-m", "sdedit_cli", "run", str(DRAWING), "-o", str(out), *WORDS]
    start = time.perf_counter()
    subprocess.run([*command, "--threads", str(threads)], env={**variables, "OMP_WAIT_POLICY": policy}, check=True)
    seconds = time.perf_counter() - start
    return seconds, hashlib.sha256(out.read_bytes()).hexdigest()[:12]


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    cores = os.cpu_count() or 1
    kinds = list(product((0, 1), ("active", "passive"), sorted({1, 2, 4, cores} & set(range(1, cores + 1)))))
    times: dict[tuple[int, str, int], list[float]] = {kind: [] for kind in kinds}
    sums: dict[int, set[str]] = {}
    with tempfile.TemporaryDirectory() as place:
        for _ in range(rounds):
            for others, policy, threads in kinds:
                with busy(others):
                    seconds, content = edit(Path(place), policy, threads)
                times[others, policy, threads].append(seconds)
                sums.setdefault(threads, set()).add(content)
    print("| busy cores | policy | threads | median s | slowest s |\n|---|---|---|---|---|")
    for (others, policy, threads), taken in times.items():
        print(f"| {others} | {policy} | {threads} | {statistics.median(taken):.2f} | {max(taken):.2f} |")
    print(", ".join(f"{threads} threads: {' '.join(found)}" for threads, found in sorted(sums.items())))


if __name__ == "__main__":
    main()
