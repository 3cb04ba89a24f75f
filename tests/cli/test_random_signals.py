"""Signals at random moments, one after the other: the exit code, the `end` event and what is on the disk agree."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest
from helpers.cli import BUILT_IN, QUICK, leftovers, photo, start

ROUNDS = 24  # of each kind; test_signal_lines.py is denser, where a line of Python is met
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 143}
LONGEST = 2.5  # seconds: longer than a run takes from its first handler to its last moment

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="asks /proc who catches signals"),
]


def until_signals_are_caught(process: subprocess.Popen[bytes]) -> None:
    """Before that Python itself is starting, and nobody can do anything about a signal."""
    status = Path(f"/proc/{process.pid}/status")
    while process.poll() is None:
        caught = next(line for line in status.read_text().splitlines() if line.startswith("SigCgt"))
        mask = int(caught.split()[1], 16)
        if all(mask >> (number - 1) & 1 for number in SIGNALS):
            return
        time.sleep(0.001)


def signalled(process: subprocess.Popen[bytes], draw: random.Random) -> list[signal.Signals]:
    """Sends one to three signals; those that were sent while it ran."""
    until_signals_are_caught(process)
    sent: list[signal.Signals] = []
    pause = draw.random() * LONGEST
    for _ in range(draw.choice((1, 2, 2, 3))):
        try:
            process.wait(pause)
            break
        except subprocess.TimeoutExpired:
            sent.append(draw.choice(SIGNALS))
            process.send_signal(sent[-1])
        pause = draw.random() ** 3 * 0.5
    return sent


@pytest.mark.parametrize("number", range(ROUNDS))
def test_code_end_and_files_of_a_run_agree(folder: Path, number: int) -> None:
    photo(folder / "a.png")
    photo(folder / "b.png")
    draw = random.Random(number)
    process = start(
        "run", "a.png", "b.png", "--json", *QUICK, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    sent = signalled(process, draw)
    out, err = process.communicate(timeout=60)
    told = [json.loads(line) for line in out.splitlines()]
    made = sorted(path.name for path in folder.glob("*.edited.png"))
    assert process.returncode in {0, *(CODES[one] for one in sent)}
    assert [event["event"] for event in told].count("end") == 1
    assert told[-1]["event"] == "end"
    assert told[-1]["exit_code"] == process.returncode
    assert told[-1]["ok"] == (process.returncode == 0) == (len(made) == 2)
    assert [event["output"] for event in told if event["event"] == "saved"] == made
    assert b"Traceback" not in err
    assert not leftovers(folder)


@pytest.mark.parametrize("number", range(ROUNDS))
def test_code_and_folder_of_a_conversion_agree(folder: Path, number: int) -> None:
    draw = random.Random(1000 + number)
    process = start("convert", BUILT_IN, "model", cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    sent = signalled(process, draw)
    _, err = process.communicate(timeout=60)
    assert process.returncode in {0, *(CODES[one] for one in sent)}
    assert (process.returncode == 0) == (folder / "model").exists()
    assert b"Traceback" not in err
    assert not leftovers(folder)
    assert os.listdir(folder) == (["model"] if process.returncode == 0 else [])
