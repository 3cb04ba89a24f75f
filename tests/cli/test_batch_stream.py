"""`sdedit batch -`: jobs on stdin, of which nobody knows beforehand what the next one is."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers.cli import QUICK, events, photo
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
    assert [one[:2] for one in failed] == [("in/a.png", "job-unusable"), ("in/b.png", "job-unusable")]
    for number, (_, _, error) in enumerate(failed, 2):
        assert error.startswith(f"stdin, line {number}: {Path('out') / ('one.png', 'One.png')[number - 2]} is another")
        assert "that of stdin, line 1;" in error
    kinds = [one["event"] for one in told if one["event"] in ("saved", "skipped")]
    assert kinds == ["saved", "saved" if more == ["--force"] else "skipped"]
    assert find("out/one.png").layer.values.get("prompt", "") == ""


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
