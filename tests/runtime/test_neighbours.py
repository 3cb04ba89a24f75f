"""A thread more than there are cores is there exactly while others compute, and changes no bit of what is computed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest
import torch

from sdedit_cli.runtime.cpu.neighbours import Neighbours
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
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    assert until(lambda: not named("crowd") and not named("neighbours")), "those of other tests"
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
    neighbours = Neighbours(lambda: seen, often=SOON, patience=3.0)
    torch.manual_seed(0)
    a, b = torch.randn(300, 500), torch.randn(500, 400)
    alone = a @ b
    for share, more in ((0.0, 0), (SHARE, 1), (1.0, 1), (None, 1), (SHARE / 2, 0), (0.5, 1), (0.0, 0), (1.0, 1)):
        seen.now = share
        neighbours.mind()
        assert looks(seen)
        assert named("crowd") == more, share
        assert named("neighbours") == 1
        assert torch.equal(a @ b, alone)


def test_the_looks_end_with_the_work_and_begin_again_with_it(seen: Seen) -> None:
    neighbours = Neighbours(lambda: seen, often=SOON, patience=5 * SOON)
    for _ in range(2):
        seen.now = 1.0
        neighbours.mind()
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
