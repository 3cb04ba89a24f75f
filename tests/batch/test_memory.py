"""Runs that meet too little memory again and again: each picture is made, or told of, once; errors hold nothing."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from helpers.cli import QUICK, events, photo
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


class _ForgetfulModels(FragileModels):
    """Has no memory to advise on pictures of a size: once, or for some always."""

    def __init__(self, always: Collection[tuple[int, int]]) -> None:
        super().__init__(lambda text: None)
        self._always = always
        self._asked = set[tuple[int, int]]()

    def advice(self, request: Request, size: tuple[int, int]) -> str:
        if size in self._always or size not in self._asked:
            self._asked.add(size)
            raise MemoryError
        return ""


@pytest.mark.parametrize("always", [[], [(24, 16)]])
def test_pictures_that_there_is_no_memory_for_come_again_and_are_never_lost(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    always: Collection[tuple[int, int]],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("in").mkdir()
    for number in range(5):
        photo(Path("in") / f"{number}.png", (16 + 4 * number, 16))
    monkeypatch.setattr("sdedit_cli.cli.engines.Models", lambda *_, **__: _ForgetfulModels(always))
    assert run(["batch", "in", "out", "-p", "a", "--batch-size", "2", "--json", *QUICK]) == (4 if always else 0)
    told = events(capfd.readouterr().out)
    assert len(list(Path("out").glob("*.png"))) == told[-1]["saved"] == 5 - len(always)
    failed = [(one["input"], one["word"]) for one in told if one["event"] == "failed"]
    assert failed == [("in/2.png", "out-of-memory")] * len(always)


def test_a_system_that_allows_no_more_threads_costs_no_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures are read, written and hashed without threads then."""
    monkeypatch.chdir(tmp_path)
    Path("in").mkdir()
    for number in range(3):
        photo(Path("in") / f"{number}.png", (16, 16))
    refused: list[str] = []

    def start(thread: threading.Thread) -> None:
        refused.append(thread.name)
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    assert run(["batch", "in", "out", "-p", "a", "--batch-size", "2", *QUICK]) == 0
    assert len(list(Path("out").glob("*.png"))) == 3
    assert {"ahead", "writing"} <= set(refused)


LIMITED = """
import resource, sys
from pathlib import Path
from PIL import Image
from sdedit_cli.cli.main import run

def pictures(folder, side, count):
    Path(folder).mkdir(exist_ok=True)
    for n in range(count):
        Image.effect_noise((side, side), 50 + n).convert("RGB").save(f"{folder}/{side}-{n}.png")

def batch(folder, *more):
    how = ["-p", "a", "--steps", "2", "--strength", "0.5", "--dtype", "fp32", "--device", "cpu", "--batch-size", "8"]
    return run(["batch", folder, f"{folder}.out", *how, *more])

pictures("first", 64, 1)
pictures("in", 256, 8)
pictures("in", 2560, 1)
assert batch("first", "-q") == 0  # torch is at work
status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
used = int(status["VmSize"].split()[0]) << 10
resource.setrlimit(resource.RLIMIT_AS, (used + (int(sys.argv[1]) << 20), resource.RLIM_INFINITY))
sys.exit(batch("in", "--json"))
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits of memory, and /proc")
def test_under_a_real_limit_of_memory_batches_are_halved_and_no_picture_is_lost(tmp_path: Path) -> None:
    """Limits from too little for any picture to enough for all: what does not fit fails by its word, alone."""
    environment = {**os.environ, "MALLOC_ARENA_MAX": "1", "OMP_NUM_THREADS": "1"}
    alone = halved = 0
    for room in (150, 170, 220, 250):  # MB
        place = tmp_path / str(room)
        place.mkdir()
        command = [sys.executable, "-c", LIMITED, str(room)]
        done = subprocess.run(
            command, cwd=place, env=environment, capture_output=True, text=True, check=False, timeout=120
        )
        told = events(done.stdout)
        failed = {one["input"]: one["word"] for one in told if one["event"] == "failed"}
        saved = {one["input"] for one in told if one["event"] == "saved"}
        assert len(saved) + len(failed) == 9, done.stderr
        assert not saved & failed.keys()
        assert done.returncode == told[-1]["exit_code"] == (0 if not failed else 4 if saved else 5), done.stderr
        # Without room for the model, it is the model that cannot be used.
        assert set(failed.values()) <= {"out-of-memory"} or set(failed.values()) == {"model-unusable"}
        assert len(list((place / "in.out").rglob("*.png"))) == len(saved)
        alone += failed == {"in/2560-0.png": "out-of-memory"}
        halved += "going on with 4 at a time" in done.stderr
    assert alone > 0
    assert halved > 0
