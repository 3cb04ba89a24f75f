"""Threads that wait sleep at once where anything else computes, and look for work a moment where nothing does."""

from __future__ import annotations

from pathlib import Path

import pytest

from sdedit_cli import waiting
from sdedit_cli.waiting import LOOKS, others, settle, settle_among_others


@pytest.fixture
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "_cores", lambda: 2)


@pytest.mark.usefixtures("two_cores")
@pytest.mark.parametrize(
    ("seen", "looks"), [([0, 0], True), ([1, 0], True), ([1, 1], False), ([3, 2], False), ([None, None], False)]
)
def test_they_look_for_work_where_nobody_else_computes(seen: list[int | None], looks: bool) -> None:
    variables: dict[str, str] = {}
    settle(seen, variables)
    assert variables == {"OMP_WAIT_POLICY": "passive", **({"GOMP_SPINCOUNT": str(LOOKS)} if looks else {})}


def test_a_neighbour_among_many_cores_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    for cores, neighbours, looks in ((16, 1, True), (16, 2, False), (64, 7, True), (64, 8, False)):
        monkeypatch.setattr(waiting, "_cores", lambda cores=cores: cores)
        variables: dict[str, str] = {}
        settle([neighbours], variables)
        assert ("GOMP_SPINCOUNT" in variables) == looks


@pytest.mark.parametrize("given", [{"OMP_WAIT_POLICY": "active"}, {"GOMP_SPINCOUNT": "7"}])
def test_what_the_user_says_stands(given: dict[str, str]) -> None:
    variables = dict(given)
    settle([0], variables)
    assert variables == {"OMP_WAIT_POLICY": "passive", **given}


def test_one_of_several_sleeps_whatever_its_starter_found() -> None:
    for given in ({}, {"GOMP_SPINCOUNT": str(LOOKS), "OMP_WAIT_POLICY": "passive"}):
        variables = dict(given)
        settle_among_others(variables)
        assert variables == {"OMP_WAIT_POLICY": "passive"}
    variables = {"GOMP_SPINCOUNT": "7"}
    settle_among_others(variables)
    assert variables["GOMP_SPINCOUNT"] == "7"


def test_others_are_those_that_could_compute_but_this_one(tmp_path: Path) -> None:
    state = tmp_path / "stat"
    for text, expected in (
        ("cpu 1 2\nprocs_running 3\nprocs_blocked 9\n", 2),
        ("procs_running 1\n", 0),
        ("procs_running 0\n", None),
        ("cpu\n", None),
    ):
        state.write_text(text)
        assert others(state) == expected
    assert others(tmp_path / "none") is None
