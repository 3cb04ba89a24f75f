"""`sdedit batch -`: jobs on stdin, of which nobody knows beforehand what the next one is."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from helpers.cli import QUICK, events, photo, start
from PIL import Image

from sdedit_cli.cli.main import run
from sdedit_cli.pictures.carriers import find

SETTINGS = ("-p", "a face", *QUICK)


@pytest.fixture
def source(folder: Path) -> Path:
    (folder / "in").mkdir()
    photo(folder / "in" / "a.png")
    return folder / "in"


def on_stdin(monkeypatch: pytest.MonkeyPatch, *jobs: dict[str, Any]) -> None:
    lines = "".join(json.dumps(job) + "\n" for job in jobs)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(lines.encode())))


@pytest.mark.parametrize("more", [[], ["--on-exists", "overwrite"], ["--force"]], ids=str)
def test_a_job_of_a_stream_loses_no_picture_of_an_earlier_one(
    source: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, more: list[str]
) -> None:
    first = {"input": "in/a.png", "output": "one.png"}
    on_stdin(monkeypatch, first, first | {"prompt": "y"}, first | {"input": "in/b.png", "output": "./One.png"}, first)
    photo(source / "b.png", (32, 48))
    assert run(["batch", "-", "out", "--json", *more, *SETTINGS[2:]]) == 4
    told = events(capfd.readouterr().out)
    failed = [(one["input"], one["word"], one["error"]) for one in told if one["event"] == "failed"]
    outputs = [one["output"] for one in told if one["event"] == "failed"]
    assert outputs == [str(Path("out") / name) for name in ("one.png", "One.png")]
    assert [one[:2] for one in failed] == [("in/a.png", "job-unusable"), ("in/b.png", "job-unusable")]
    for number, (_, _, error) in enumerate(failed, 2):
        assert error.startswith(f"stdin, line {number}: {Path('out') / ('one.png', 'One.png')[number - 2]} is another")
        assert "that of stdin, line 1;" in error
    kinds = [one["event"] for one in told if one["event"] in ("saved", "skipped")]
    assert kinds == ["saved", "saved" if more == ["--force"] else "skipped"]
    assert find("out/one.png").layer.values.get("prompt", "") == ""


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_a_job_of_a_stream_loses_no_picture_of_an_earlier_one_by_a_link(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo(source / "b.png", (32, 48))
    Path("out/one").mkdir(parents=True)
    Path("out/two").symlink_to("one", target_is_directory=True)
    rows = [{"input": f"in/{name}.png", "output": f"{folder}/a.png"} for name, folder in (("a", "one"), ("b", "two"))]
    on_stdin(monkeypatch, *rows)
    assert run(["batch", "-", "out", "--on-exists", "overwrite", *SETTINGS]) == 4
    with Image.open("out/one/a.png") as image:
        assert image.size == (64, 48)


def test_a_job_of_a_stream_comes_again_when_its_input_has_changed(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a program sends it that watches a file."""

    class Watching(io.BytesIO):
        lines = 0

        def readline(self, size: int | None = -1) -> bytes:
            self.lines += 1
            if self.lines == 2:
                photo(source / "a.png", (40, 24))
            return super().readline(size)

    job = json.dumps({"input": "in/a.png", "output": "one.png"}).encode() + b"\n"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(Watching(job * 2)))
    assert run(["batch", "-", "out", *SETTINGS]) == 0
    with Image.open("out/one.png") as image:
        assert image.size == (40, 24)


def test_an_output_of_a_stream_that_was_not_made_may_be_tried_in_another_way(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = {"input": "in/a.png", "output": "one.png"}
    on_stdin(monkeypatch, job | {"input": "in/none.png"}, job)
    assert run(["batch", "-", "out", *SETTINGS]) == 4
    assert [path.name for path in Path("out").glob("*.png")] == ["one.png"]


@pytest.mark.skipif(os.name == "nt", reason="ends by signals")
@pytest.mark.parametrize(
    ("kind", "number", "code"), [("waiting", signal.SIGTERM, 143), ("at work", signal.SIGINT, 130)], ids=str
)
def test_a_stream_ends_by_a_signal_after_its_first_picture_as_before_it(
    source: Path, kind: str, number: int, code: int
) -> None:
    """No picture of a stream is the last one before its input ends."""
    told: list[dict[str, Any]] = []
    words = ("batch", "-", "out", "--json", "-q", *SETTINGS)
    pipe = subprocess.PIPE
    with start(*words, cwd=source.parent, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL) as process:
        jobs, answers = process.stdin, process.stdout
        assert jobs is not None
        assert answers is not None

        def hear(job: dict[str, Any], event: str) -> None:
            jobs.write(json.dumps({"input": "in/a.png", **job}).encode() + b"\n")
            jobs.flush()
            while not told or told[-1]["event"] != event:
                told.append(json.loads(answers.readline()))

        hear({"output": "one.png"}, "saved")
        if kind == "at work":
            hear({"output": "two.png", "steps": 900, "strength": 1}, "step")
        process.send_signal(number)
        deadline = threading.Timer(60, process.kill)
        deadline.start()
        told += events(answers.read())
    deadline.cancel()
    assert process.returncode == code
    assert (told[-1]["event"], told[-1]["exit_code"], told[-1]["saved"]) == ("end", code, 1)
    assert [path.name for path in Path("out").glob("*.png")] == ["one.png"]


def test_with_fail_fast_a_job_fails_once(
    source: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (source / "broken.png").write_bytes(b"no picture")
    Path("out").mkdir()
    Path("out/mine.png").write_bytes(b"mine")
    for job in ({"input": "in/broken.png"}, {"input": "in/a.png", "output": "mine.png"}):
        on_stdin(monkeypatch, job, {"input": "in/a.png"})
        assert run(["batch", "-", "out", "--json", "--fail-fast", *SETTINGS]) == 4
        told = events(capfd.readouterr().out)
        failed = [(one["input"], Path(one["output"]).name) for one in told if one["event"] == "failed"]
        assert failed == [(job["input"], job.get("output", "broken.png"))]
        assert not [one for one in told if one["event"] == "saved"]
