"""How long the command line takes to answer, against what it cannot do without.

    python benchmarks/startup.py [ROUNDS]

Prints the fastest of some rounds for each command, and its multiple of `python -c "import click"`; the commands take
turns, so that a busy moment of the machine hits all of them.
"""

from __future__ import annotations

import subprocess
import sys
import time

COMMANDS = {
    "python": ["-c", "pass"],
    "import click": ["-c", "import click"],
    "sdedit --version": ["-m", "sdedit_cli", "--version"],
    "sdedit --help": ["-m", "sdedit_cli", "--help"],
    "sdedit run --help": ["-m", "sdedit_cli", "run", "--help"],
    "usage error": ["-m", "sdedit_cli", "run", "none.png", "--sampler", "eular"],
}


def seconds(words: list[str]) -> float:
    """The wall time of one process."""
    start = time.perf_counter()
    subprocess.run([sys.executable, *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    return time.perf_counter() - start


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(rounds):
        for name, words in COMMANDS.items():
            times[name].append(seconds(words))
    base = min(times["import click"])
    for name, taken in times.items():
        print(f"{name:20} {1000 * min(taken):6.0f} ms  {min(taken) / base:4.2f} x")


if __name__ == "__main__":
    main()
