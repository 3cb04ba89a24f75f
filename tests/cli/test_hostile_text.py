"""Texts from files reach the terminal harmless: no escapes, no broken lines, no tracebacks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sdedit_cli.cli.main import run

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
