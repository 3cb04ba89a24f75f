"""A thread more than there are cores is there exactly while others compute, and changes no bit of what is computed."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import torch

from sdedit_cli.runtime.cpu.neighbours import OFTEN, Neighbours
from sdedit_cli.waiting import LOOKS_VARIABLE, SHARE, WAIT_VARIABLE, Others


class Seen(Others):
    """Others whose share is known; counts how often it was asked for."""

    def __init__(self) -> None:
        self.now: float | None = 0.0
        self.asked = 0

    def share(self) -> float | None:
        self.asked += 1
        return self.now


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for variable in (WAIT_VARIABLE, LOOKS_VARIABLE):
        monkeypatch.delenv(variable, raising=False)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def crowds() -> int:
    return sum(thread.name == "crowd" for thread in threading.enumerate())


@pytest.mark.usefixtures("threads")
def test_there_is_one_thread_more_while_others_compute() -> None:
    seen, clock, before = Seen(), Clock(), crowds()
    neighbours = Neighbours(seen, clock)
    torch.manual_seed(0)
    a, b = torch.randn(300, 500), torch.randn(500, 400)
    alone = a @ b
    for share, more in ((0.0, 0), (SHARE, 1), (1.0, 1), (None, 1), (SHARE / 2, 0), (0.5, 1), (0.0, 0)):
        seen.now = share
        clock.now += OFTEN
        neighbours.mind()
        assert crowds() - before == more, share
        assert torch.equal(a @ b, alone)


@pytest.mark.usefixtures("threads")
def test_a_look_so_soon_after_another_is_none() -> None:
    seen, clock = Seen(), Clock()
    neighbours = Neighbours(seen, clock)
    for _ in range(10):
        neighbours.mind()
    assert seen.asked == 1
    clock.now += OFTEN
    neighbours.mind()
    assert seen.asked == 2


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("variable", [WAIT_VARIABLE, LOOKS_VARIABLE])
def test_what_the_user_says_of_waiting_stands(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, "passive")
    seen, before = Seen(), crowds()
    seen.now = 1.0
    Neighbours(seen, Clock()).mind()
    assert crowds() == before


@pytest.mark.usefixtures("threads")
def test_a_single_thread_waits_for_nobody() -> None:
    torch.set_num_threads(1)
    seen, before = Seen(), crowds()
    seen.now = 1.0
    Neighbours(seen, Clock()).mind()
    assert crowds() == before
