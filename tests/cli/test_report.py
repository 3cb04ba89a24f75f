"""What people and caches see."""

from __future__ import annotations

import json
import re
import sys
from io import BytesIO
from pathlib import Path

import pytest
from helpers.cli import events

from sdedit_cli.batch.events import Events, ended
from sdedit_cli.cli.render import Bars, Reporter, reporter
from sdedit_cli.disk import hashes
from sdedit_cli.disk.hashes import file_hash
from sdedit_cli.errors import InternalError, OutOfMemory, OutputError, PictureError, SdeditError, Terminated, as_error
from sdedit_cli.signals import Stop


@pytest.mark.parametrize(
    ("verbosity", "seen"),
    [(-1, {"error"}), (0, {"error", "warning", "note"}), (1, {"error", "warning", "note", "detail"})],
)
def test_verbosity_decides_what_is_said(verbosity: int, seen: set[str], capsys: pytest.CaptureFixture[str]) -> None:
    to = Reporter(verbosity)
    to.error("error")
    to.warn("warning")
    to.note("note")
    to.detail("detail")
    out, err = capsys.readouterr()
    assert out == ""
    assert {line.split()[-1] for line in err.splitlines()} == seen


def test_bars_are_for_terminals_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert type(reporter(0)) is Reporter
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert type(reporter(0)) is Bars
    assert type(reporter(-1)) is Reporter


def test_bars_go_through_a_run_and_leave_no_trace(capsys: pytest.CaptureFixture[str]) -> None:
    to = Bars()
    to.loading("the [bold]x model")
    for number in (1, 2):
        to.picture("a.png", number, 2)
        to.step(1, 2)
    to.note("[red]a.png -> b.png")
    to.close()
    to.close()
    assert "[red]a.png -> b.png" in capsys.readouterr().err


def test_a_closed_stderr_does_not_stop_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    class Closed:
        def write(self, text: str) -> int:
            raise OSError("closed")

        def flush(self) -> None:
            raise OSError("closed")

    monkeypatch.setattr(sys, "stderr", Closed())
    Reporter().note("x")


def test_what_a_file_brought_into_a_message_moves_no_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    for tell in (Reporter().error, Reporter().warn, Reporter().note):
        tell("m\x1b[2J.ckpt\x07: no\nsecond line")
        assert capsys.readouterr().err.endswith("m\\x1b[2J.ckpt\\x07: no\nsecond line\n")


def test_hashes_of_large_files_are_remembered_until_the_file_changes(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hashes, "_WORTH_KEEPING", 1)
    path = folder / "w.safetensors"
    path.write_bytes(b"one")
    first = hashes.remembered_hash(path)
    assert first == file_hash(path)
    (cache,) = (folder.parent / "home").rglob("hashes.json")
    assert first in cache.read_text()
    monkeypatch.setattr(hashes, "file_hash", lambda path: "read again")
    assert hashes.remembered_hash(path) == first
    path.write_bytes(b"other")
    assert hashes.remembered_hash(path) == "read again"


@pytest.mark.parametrize("text", ["", "[]", "{", json.dumps({"x": 3}), "null hash"])
def test_a_damaged_cache_costs_time_alone(folder: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(hashes, "_WORTH_KEEPING", 1)
    path = folder / "w.safetensors"
    path.write_bytes(b"one")
    hashes.remembered_hash(path)
    (cache,) = (folder.parent / "home").rglob("hashes.json")
    known = json.loads(cache.read_text())
    cache.write_text(json.dumps({key: [*entry[:2], None] for key, entry in known.items()}) if "null" in text else text)
    assert hashes.remembered_hash(path) == file_hash(path)


def test_a_missing_model_has_no_hash(folder: Path) -> None:
    assert hashes.FileHash(folder / "none").value() == ""


@pytest.mark.parametrize(
    ("problem", "kind", "code", "text"),
    [
        (KeyError("x"), InternalError, 1, "internal error: KeyError: 'x'"),
        (MemoryError(), OutOfMemory, 3, "out of memory; try --max-side 768, or --dtype bf16 or fp16"),
        (OSError(28, "No space left on device"), OutputError, 3, "stdout: cannot be written (No space left on device)"),
        (PictureError("a.png: no such file"), PictureError, 3, "a.png: no such file"),
        (Stop(15), Terminated, 143, "terminated"),
    ],
)
def test_whatever_ends_a_run_is_told_once_to_programs_and_then_to_people(
    problem: BaseException, kind: type[SdeditError], code: int, text: str
) -> None:
    stream = BytesIO()

    def work() -> None:
        with ended(Events(stream)):
            raise problem

    with pytest.raises(kind, match=re.escape(text)) as caught:
        work()
    assert caught.value.reported
    [end] = events(stream.getvalue())
    assert (end["event"], end["exit_code"], end["error"]) == ("end", code, text)


def test_an_error_is_not_reported_before_it_is() -> None:
    assert not as_error(ValueError()).reported
