"""Texts from files reach the terminal harmless: no escapes, no broken lines, no tracebacks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.cli import QUICK, events, photo

from sdedit_cli.cli.main import run
from sdedit_cli.cli.render import plain

METADATA = {"title": "\x1b[31mred\x1b[0m\nsecond line", "k" * 300: "v", "half": "\ud800"}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    header = json.dumps(
        {"__metadata__": METADATA, "w\ud800\x1b[2J": {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]}}
    ).encode()
    path = tmp_path / "m.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    return path


def test_info_escapes_what_a_file_says_of_itself(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["info", str(file)]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "\\x1b[31mred" in out
    assert max(map(len, out.splitlines())) < 200


def test_info_json_keeps_it_whole(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["info", str(file), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["metadata"] == METADATA


NAME = "a\nsdedit: warning: all is lost\r\x1b[2J.png"


@pytest.mark.parametrize("command", [["run", "in/*.png", "-o", "out/"], ["batch", "in", "out"]])
@pytest.mark.parametrize("way", [["--dry-run"], ["--check"], [], ["-q", "--json"]], ids=" ".join)
def test_a_name_with_line_breaks_and_escapes_stays_in_its_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    command: list[str],
    way: list[str],
) -> None:
    if "--check" in way and command[0] == "run":
        pytest.skip("of batches alone")
    monkeypatch.chdir(tmp_path)
    Path("in").mkdir()
    photo(Path("in") / NAME)
    (Path("in") / f"b{NAME}").write_bytes(b"no picture")
    assert run([*command, "-p", "a", *way, *QUICK]) == (6 if "--check" in way else 4)
    told = capfd.readouterr()
    assert not {"\r", "\x1b"} & set(told.err)
    assert not [line for line in told.err.splitlines() if line.startswith("sdedit: warning: all is lost")]
    if "--json" in way:  # programs get the name as it is
        saved = [one for one in events(told.out) if one["event"] == "saved"]
        assert [one["input"] for one in saved] == [f"in/{NAME}"]
        assert [one["output"] for one in saved] == [f"out/{NAME}"]
    else:
        assert "a\\nsdedit: warning: all is lost\\r\\x1b[2J.png" in told.err


def test_a_message_keeps_the_lines_that_it_was_written_in() -> None:
    assert plain("m.ckpt: does not fit.\nGive --partial") == "m.ckpt: does not fit.\nGive --partial"
    assert plain("a\nb.png: is cut short.\nTry c\nd.png") == "a\\nb.png: is cut short.\nTry c\\nd.png"
