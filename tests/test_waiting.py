"""Who else computes is counted, and threads that nobody could tell of it on the way sleep while they wait."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from sdedit_cli import waiting
from sdedit_cli.waiting import Others, settle, settle_among_others

_TICKS = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
needs_affinity = pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="cores of a process are Linux's")


class Machine:
    """Two cores that this program may use and one that it may not; what they say of themselves is a file."""

    def __init__(self, state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.state, self.now, self.mine = state, 100.0, 7.0
        self._taken = [50.0, 60.0, 70.0]
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 2})
        monkeypatch.setattr(time, "monotonic", lambda: self.now)
        monkeypatch.setattr(time, "process_time", lambda: self.mine)
        self.passes(0.0, 0.0, 0.0, 0.0)

    def passes(self, seconds: float, mine: float, *taken: float) -> None:
        """A time in which this program and all together took so many seconds, the latter of each core."""
        self.now, self.mine = self.now + seconds, self.mine + mine
        for core, share in enumerate(taken):
            self._taken[core] += share
        lines = [
            f"cpu{core} {all_ * _TICKS - 300:.0f} 0 300 999999 9 0 0 5 0 0" for core, all_ in enumerate(self._taken)
        ]
        self.state.write_text("\n".join(["cpu  1 2 3 4 5 6 7 8 0 0", *lines, "intr 5 4", "procs_running 9", ""]))


@needs_affinity
def test_others_took_what_this_program_did_not_of_the_cores_that_it_may_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(tmp_path / "stat", monkeypatch)
    others = Others(machine.state)
    machine.passes(2.0, 1.0, 2.0, 2.0, 1.0)
    assert others.share() == pytest.approx(0.5)
    machine.passes(2.0, 4.0, 2.0, 2.0, 2.0)
    assert others.share() == pytest.approx(0.0)
    machine.passes(1.0, 0.0, 0.25, 1.0, 0.0)
    assert others.share() == pytest.approx(0.125)
    machine.passes(1.0, 0.5, 0.0, 0.0, 0.0)
    assert others.share() == 0.0, "the system counts in ticks, and a program exactly"


@needs_affinity
def test_a_system_that_counts_nobody_tells_nothing(tmp_path: Path) -> None:
    for text in ("cpu 0 0 0 0\ncpu0 0 0 0 0 0 0 0 0 0 0\n", "", "procs_running 3\n"):
        state = tmp_path / "stat"
        state.write_text(text)
        assert not Others(state).are_told()
        assert Others(state).share() is None
    assert Others(tmp_path / "none").share() is None


def test_threads_sleep_where_nobody_can_tell_them_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    for told, listens in ((True, True), (True, False), (False, True)):
        monkeypatch.setattr(Others, "are_told", lambda _, told=told: told)
        monkeypatch.setattr(waiting, "_listens", lambda listens=listens: listens)
        variables: dict[str, str] = {}
        settle(variables)
        assert variables == ({} if told and listens else {"OMP_WAIT_POLICY": "passive"})


@pytest.mark.parametrize("given", [{"OMP_WAIT_POLICY": "active"}, {"GOMP_SPINCOUNT": "7"}])
def test_what_the_user_says_stands(given: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "_listens", lambda: False)
    variables = dict(given)
    settle(variables)
    assert variables == given


def test_one_of_several_sleeps() -> None:
    variables: dict[str, str] = {}
    settle_among_others(variables)
    assert variables == {"OMP_WAIT_POLICY": "passive"}
