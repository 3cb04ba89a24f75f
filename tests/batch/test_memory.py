"""Runs that meet too little memory again and again: each picture is made, or told of, once; errors hold nothing."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from helpers.cli import QUICK, photo
from helpers.fragile import FragileModels

from sdedit_cli.batch.request import Request
from sdedit_cli.batch.worker import EditedPicture, Task
from sdedit_cli.cli.main import run
from sdedit_cli.errors import OutOfMemory, SdeditError, let_go

PICTURES = 9


class _Tight:
    """A sound worker that has memory for two pictures at a time, and finds out in the middle of the work."""

    def __init__(self, worker: Any) -> None:
        self._worker = worker
        self.facts: Mapping[str, Any] = worker.facts

    def edits(
        self, tasks: Iterable[Task], size: int | None = None
    ) -> Iterator[tuple[Task, EditedPicture | SdeditError]]:
        for number, (task, outcome) in enumerate(self._worker.edits(tasks, size)):
            if number and (size or 1) > 2:
                yield task, outcome
                raise OutOfMemory("no room for so many")
            yield task, outcome


class _TightModels(FragileModels):
    def load(self, request: Request, warn: Callable[[str], None], loaded: Callable[[Mapping[str, Any]], None]) -> Any:
        return _Tight(super(FragileModels, self).load(request, warn, loaded))


def test_a_batch_that_runs_out_of_memory_twice_makes_each_picture_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("in").mkdir()
    for number in range(PICTURES):
        photo(Path("in") / f"{number}.png", (16, 16))
    monkeypatch.setattr("sdedit_cli.cli.engines.Models", lambda *_, **__: _TightModels(lambda text: None))
    assert run(["batch", "in", "out", "-p", "a", "--batch-size", "8", *QUICK]) == 0
    assert len(list(Path("out").glob("*.png"))) == PICTURES
    told = capfd.readouterr().err
    assert "going on with 4 at a time" in told
    assert "going on with 2 at a time" in told


class _Large:
    pass


def test_an_error_that_is_kept_holds_its_words_alone() -> None:
    def made() -> tuple[OutOfMemory, weakref.ref[_Large]]:
        large = _Large()
        try:
            try:
                raise MemoryError(large)
            except MemoryError as problem:
                raise OutOfMemory("no room") from problem
        except OutOfMemory as kept:
            return kept, weakref.ref(large)

    kept, held = made()
    gc.collect()
    assert held() is not None
    let_go(kept)
    gc.collect()
    assert held() is None
    assert str(kept) == "no room"
