"""Who else computes is counted, and threads that nobody could tell of it on the way sleep while they wait."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from sdedit_cli import waiting
from sdedit_cli.waiting import Others, can_be_told, have_them_sleep, is_said, settle

_TICKS = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
needs_affinity = pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="cores of a process are Linux's")


class Machine:
    """Two cores that this program may use and one that it may not; what they say of themselves is a file."""

    def __init__(self, state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.state, self.now, self.mine = state, 100.0, 7.0
        self._taken = [50.0, 60.0, 70.0]
        clock = SimpleNamespace(monotonic=lambda: self.now, process_time=lambda: self.mine)
        monkeypatch.setattr(waiting, "time", clock)
        monkeypatch.setattr(waiting, "usable", lambda: {0, 2})
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
    core = f"cpu{min(os.sched_getaffinity(0))}"
    odd = [f"{core} 1 2 3", f"{core} one two three 4 5 6 7 8", f"{core} 1 2 3 4 5 6 7\n\xff"]
    for text in (f"cpu 0 0 0 0\n{core} 0 0 0 0 0 0 0 0 0 0\n", "", "procs_running 3\n", *odd):
        state = tmp_path / "stat"
        state.write_text(text, encoding="latin-1")
        assert not Others(state).are_told()
        assert Others(state).share() is None
    assert Others(tmp_path / "none").share() is None


def test_threads_sleep_where_nobody_can_tell_them_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    for told in (True, False):
        monkeypatch.setattr(waiting, "can_be_told", lambda told=told: told)
        variables: dict[str, str] = {}
        settle(variables)
        assert variables == ({} if told else {"OMP_WAIT_POLICY": "passive"})


def test_only_threads_of_gnus_openmp_that_torch_brings_can_be_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = SimpleNamespace(submodule_search_locations=[str(tmp_path / "torch")])
    monkeypatch.setattr(waiting, "find_spec", lambda _: found)
    monkeypatch.setattr(Others, "are_told", lambda _: True)
    assert not can_be_told()
    for place in ("torch/lib/libgomp.so.1", "torch.libs/libgomp-24e2ab19.so.1.0.0"):
        path = tmp_path / place
        path.parent.mkdir(parents=True)
        path.touch()
        assert can_be_told()
        path.unlink()
    path.touch()
    monkeypatch.setattr(Others, "are_told", lambda _: False)
    assert not can_be_told()
    monkeypatch.setattr(waiting, "find_spec", lambda _: None)
    assert not can_be_told()


def test_the_command_settles_it_before_torch_is_there(tmp_path: Path) -> None:
    program = (
        "import sys, sdedit_cli.waiting as waiting; waiting.can_be_told = lambda: False; "
        "sys.argv = ['sdedit', 'info', '--json']; from sdedit_cli.__main__ import main; main()"
    )
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    done = subprocess.run([sys.executable, "-c", program], env=variables, cwd=tmp_path, capture_output=True, check=True)
    assert json.loads(done.stdout)["threads_environment"] == {"OMP_WAIT_POLICY": "passive"}


@pytest.mark.parametrize("given", [{"OMP_WAIT_POLICY": "active"}, {"GOMP_SPINCOUNT": "7"}])
def test_what_the_user_says_stands(given: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "can_be_told", lambda: False)
    variables = dict(given)
    settle(variables)
    assert variables == given
    assert is_said(variables)
    assert not is_said(dict.fromkeys(given, ""))


def test_one_of_several_sleeps() -> None:
    variables: dict[str, str] = {}
    have_them_sleep(variables)
    assert variables == {"OMP_WAIT_POLICY": "passive"}
