"""Texts from files reach the terminal harmless: no escapes, no broken lines, no tracebacks."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
from helpers.cli import QUICK, events, photo

from sdedit_cli.cli.main import run
from sdedit_cli.errors import ModelError, first_line

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


BREAKS = ["a.\nb", "a;\nb", "a:\nb", "a\nsee b", "a\nb", "a.\r\nb", "a\n"]


@pytest.mark.parametrize("name", BREAKS, ids=repr)
def test_only_what_to_try_has_a_line_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], name: str
) -> None:
    """Whatever stands before and behind a break that came with the name of a file."""
    monkeypatch.chdir(tmp_path)
    photo(Path("a.png"))
    Path(name).mkdir()
    escaped = name.encode("unicode_escape").decode()
    lines: list[list[str]] = []
    for asked, most in (
        (["run", "a.png", "-m", name], 2),  # no model; the other line says what to try
        (["run", name, "-p", "a"], 1),
        (["run", "a.png", "--lora", f"{name}/{name}"], 1),
        (["run", "a.png", f"--{name}"], 2),
        (["batch", f"{name}/none.csv", "out"], 1),
        (["info", name], 2),
    ):
        assert run([*asked, "--json"]) in (2, 3)
        told = capfd.readouterr()
        lines.append(told.err.splitlines())
        assert len(lines[-1]) <= most, asked
        assert escaped in lines[-1][0] or asked[-1].startswith("--"), asked  # the name of an option is click's to quote
        for one in events(told.out):
            assert "\n" not in str(one.get("error", "")).replace("\nIf the weights", ""), asked
    assert [len(one) for one in lines].count(2) == 3


def test_an_error_keeps_its_lines_wherever_it_goes() -> None:
    error = ModelError("a.\nb.ckpt: does not fit.", "Give --partial")
    text = "a.\\nb.ckpt: does not fit.\nGive --partial"
    assert (str(error), first_line(error)) == (text, text.splitlines()[0])
    assert str(pickle.loads(pickle.dumps(error))) == text
    assert str(error.within("node 7")) == f"node 7: {text}"
    assert type(error.within("node 7")) is ModelError
