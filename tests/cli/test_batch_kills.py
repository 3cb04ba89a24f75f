"""A batch that is killed at any moment: reruns end with the bytes of an undisturbed one, nothing is done twice."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest
from helpers.cli import QUICK, events, leftovers, photo, sdedit, start

PICTURES = 12
KILLS = 30
COMMAND = ("batch", "in", "out", "-p", "a {stem}", "--json", "--batch-size", "4", *QUICK)

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.name == "nt", reason="kills by signals")]


@pytest.fixture
def source(folder: Path) -> Path:
    (folder / "in").mkdir()
    for number in range(PICTURES):
        photo(folder / "in" / f"{number}.png", (64, 64 - number % 2 * 8))
    return folder


def hashes(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (folder / "out").glob("*.png")}


def test_after_kills_at_random_moments_the_outputs_are_those_of_an_undisturbed_run(source: Path) -> None:
    began = time.monotonic()
    done = sdedit(*COMMAND, cwd=source)
    took = time.monotonic() - began
    assert done.returncode == 0, done.stderr
    whole = hashes(source)
    assert len(whole) == PICTURES
    (source / "out").rename(source / "undisturbed")
    draw = random.Random(0)
    killed = 0
    for _ in range(KILLS):
        process = start(*COMMAND, cwd=source, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        # Most of a run is its start: half of the moments lie behind it.
        time.sleep(took * draw.choice((draw.random() * 0.4, 0.3 + draw.random() * 0.7)))
        process.kill()
        killed += process.wait() == -signal.SIGKILL
        journal = source / "out" / ".sdedit" / "journal.jsonl"
        if killed % 7 == 0 and journal.is_file():  # and once in a while the last line is lost in part
            journal.write_bytes(journal.read_bytes()[: -draw.randrange(1, 40)])
    assert killed >= 3
    final = sdedit(*COMMAND, cwd=source)
    assert final.returncode == 0, final.stderr
    assert hashes(source) == whole
    assert not leftovers(source / "out")
    assert sdedit(*COMMAND, "--check", cwd=source).returncode == 0


def test_no_job_runs_again_once_it_was_journalled(source: Path) -> None:
    draw = random.Random(1)
    for _ in range(8):
        process = start(*COMMAND, cwd=source, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(2 + draw.random() * 3)
        process.kill()
        process.wait()
    assert sdedit(*COMMAND, cwd=source).returncode == 0
    lines = (source / "out" / ".sdedit" / "journal.jsonl").read_text().splitlines()
    done = Counter(entry["output"] for entry in map(json.loads, lines) if entry["event"] == "done")
    assert set(done) | {e["output"] for e in map(json.loads, lines)} == {f"{n}.png" for n in range(PICTURES)}
    assert max(done.values()) == 1


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_keeps_what_is_done_and_says_so(source: Path, number: int, code: int) -> None:
    told = []
    with start(*COMMAND, cwd=source, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        for line in process.stdout:
            told.append(json.loads(line))
            if told[-1]["event"] == "saved":
                process.send_signal(number)
                break
        told += events(process.stdout.read())
    assert process.returncode == code
    assert (told[-1]["event"], told[-1]["exit_code"]) == ("end", code)
    saved = {Path(one["output"]).name for one in told if one["event"] == "saved"}
    assert set(hashes(source)) == saved
    again = sdedit(*COMMAND, cwd=source)
    assert {Path(one["output"]).name for one in events(again.stdout) if one["event"] == "skipped"} == saved
