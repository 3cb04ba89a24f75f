"""There are more threads than cores exactly while others compute, and they change no bit of what is computed."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from helpers.pipelines import picture, write_checkpoint

from sdedit_cli import StableDiffusionImg2ImgPipeline, waiting
from sdedit_cli.engine import engine
from sdedit_cli.runtime.cpu import neighbours
from sdedit_cli.runtime.cpu.neighbours import Crowd, Neighbours
from sdedit_cli.waiting import LOOKS_VARIABLE, SHARE, WAIT_VARIABLE, Others

SOON = 0.01


class Seen(Others):
    """Others whose share is known; counts how often it was asked for."""

    def __init__(self) -> None:
        self.now: float | None = 0.0
        self.asked = 0

    def share(self) -> float | None:
        self.asked += 1
        return self.now


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Iterator[Seen]:
    for variable in (WAIT_VARIABLE, LOOKS_VARIABLE):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(neighbours, "_can_be_told", lambda: True)
    monkeypatch.setattr(neighbours, "usable", lambda: {0, 1})
    neighbours.NEIGHBOURS.end()
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    assert not named("crowd")
    assert not named("neighbours")
    yield Seen()
    assert until(lambda: not named("crowd") and not named("neighbours")), "no thread stays when the work is over"
    torch.set_num_threads(before)


def named(name: str) -> int:
    return sum(thread.name == name for thread in threading.enumerate())


def until(holds: Callable[[], bool], seconds: float = 20.0) -> bool:
    end = time.monotonic() + seconds
    while not holds() and time.monotonic() < end:
        time.sleep(SOON / 10)
    return holds()


def looks(seen: Seen, count: int = 2) -> bool:
    """Whether there were so many looks more."""
    asked = seen.asked
    return until(lambda: seen.asked >= asked + count)


def test_there_is_one_thread_more_while_others_compute(seen: Seen) -> None:
    looking = Neighbours(lambda: seen, often=SOON, patience=3.0)
    torch.manual_seed(0)
    a, b = torch.randn(300, 500), torch.randn(500, 400)
    alone = a @ b
    for share, more in ((0.0, 0), (SHARE, 1), (1.0, 1), (None, 1), (SHARE / 2, 0), (0.5, 1), (0.0, 0), (1.0, 1)):
        seen.now = share
        looking.mind()
        assert looks(seen)
        assert named("crowd") == more, share
        assert named("neighbours") == 1
        assert torch.equal(a @ b, alone)


def test_the_looks_end_with_the_work_and_begin_again_with_it(seen: Seen) -> None:
    looking = Neighbours(lambda: seen, often=SOON, patience=5 * SOON)
    for _ in range(2):
        seen.now = 1.0
        looking.mind()
        assert looks(seen, 1)
        assert until(lambda: not named("neighbours"))
        assert not named("crowd")
        asked = seen.asked
        time.sleep(5 * SOON)
        assert seen.asked == asked


@pytest.mark.parametrize("variable", [WAIT_VARIABLE, LOOKS_VARIABLE])
def test_what_the_user_says_of_waiting_stands(variable: str, seen: Seen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, "passive")
    Neighbours(lambda: seen, often=SOON, patience=SOON).mind()
    assert not named("neighbours")


def test_a_single_thread_waits_for_nobody(seen: Seen) -> None:
    torch.set_num_threads(1)
    Neighbours(lambda: seen, often=SOON, patience=SOON).mind()
    assert not named("neighbours")


def test_work_goes_on_where_no_thread_can_be_started(seen: Seen, monkeypatch: pytest.MonkeyPatch) -> None:
    looking, start = Neighbours(lambda: seen, often=SOON, patience=3.0), threading.Thread.start

    refused_names: list[str] = []

    def refused(thread: threading.Thread) -> None:
        if thread.name in refused_names:
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refused)
    seen.now = 1.0
    for name in ("neighbours", "crowd"):
        refused_names[:] = [name]
        looking.mind()
        assert until(lambda: not named("neighbours"))
        assert not named("crowd")
    refused_names.clear()
    looking.mind()
    assert until(lambda: named("crowd") == 1)


def test_the_end_of_the_program_ends_them(seen: Seen) -> None:
    looking = Neighbours(lambda: seen, often=SOON)
    seen.now = 1.0
    looking.mind()
    assert until(lambda: named("crowd") == 1)
    looking.end()
    assert not named("crowd")
    assert not named("neighbours")


@pytest.mark.parametrize(
    ("cores", "threads", "teams"), [(2, 2, 1), (16, 16, 1), (16, 8, 2), (4, 2, 3), (64, 2, 0), (2, 1, 0)]
)
def test_a_crowd_is_more_threads_than_cores(
    cores: int, threads: int, teams: int, seen: Seen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(neighbours, "usable", lambda: set(range(cores)))
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    crowd = Crowd()
    try:
        assert named("crowd") == teams
        assert not teams or threads + teams * (threads - 1) > cores
    finally:
        crowd.leave()


@pytest.mark.skipif(not waiting.can_be_told(), reason="threads cannot be told here")
@pytest.mark.skipif(len(waiting.usable()) < 2, reason="on one core nobody waits")
def test_threads_that_wait_take_no_time_in_a_crowd() -> None:
    program = """
import time, torch
from sdedit_cli.runtime.cpu.neighbours import Crowd
torch.set_num_threads(2)
def waited():
    taken = 0
    for _ in range(20):
        torch.ones(1 << 20).add_(1)
        began = time.process_time()
        time.sleep(0.01)
        taken += time.process_time() - began
    return taken
waited()
alone, crowd = waited(), Crowd()
beside = waited()
crowd.leave()
print(alone, beside)
"""
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    done = subprocess.run([sys.executable, "-c", program], env=variables, capture_output=True, text=True, check=True)
    alone, beside = map(float, done.stdout.split())
    assert beside < alone / 3


def test_networks_that_are_about_to_compute_have_others_minded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    minded: list[str] = []
    monkeypatch.setattr(engine, "NEIGHBOURS", SimpleNamespace(mind=lambda: minded.append("")))
    write_checkpoint(tmp_path / "m", "sd15")
    pipe: Any = StableDiffusionImg2ImgPipeline.from_pretrained(tmp_path / "m")
    pipe("a cat", picture(), num_inference_steps=4, strength=0.5)
    assert len(minded) >= 1 + 2 + 1, "the encoder, two steps, the decoder"
