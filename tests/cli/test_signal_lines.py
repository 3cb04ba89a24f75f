"""A signal at any line that a command line comes by: the exit code, the `end` event and what is on the disk agree."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import Any

import pytest
from helpers.cli import BUILT_IN, QUICK, ROOT, environment

CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}
LINES = 150  # of the thousands that each command comes by

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="copies a process that has imported torch"),
]


def ends(*arguments: str) -> list[dict[str, Any]]:
    """How a command line ended, once for each line where a signal met it."""
    done = subprocess.run(
        [sys.executable, "-m", "helpers.signal_lines", str(LINES), *arguments],
        capture_output=True,
        env=environment(PYTHONPATH=f"{ROOT}{os.pathsep}{ROOT / 'tests'}"),
        text=True,
        timeout=1500,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    ended = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(ended) == LINES
    assert sum(one["code"] != 0 for one in ended) > LINES // 4
    for one in ended:
        assert one["code"] in {0, CODES[one["signal"]]}, one
        assert "Traceback" not in one["stderr"], one
        assert not [name for name in one["files"] if name.endswith(".tmp")], one
    return ended


@pytest.mark.parametrize(
    ("command", "made"), [(("run", "a.png", "b.png"), ".edited.png"), (("batch", ".", "out"), "out/")]
)
def test_code_end_and_pictures_agree(command: tuple[str, ...], made: str) -> None:
    for one in ends(*command, "--json", *QUICK):
        told = [json.loads(line) for line in one["stdout"].splitlines()]
        pictures = [name for name in one["files"] if made in name and name.endswith(".png")]
        assert [event["event"] for event in told].count("end") == 1, one
        assert told[-1]["event"] == "end", one
        assert told[-1]["exit_code"] == one["code"], one
        assert told[-1]["ok"] == (one["code"] == 0) == (len(pictures) == 2), one
        assert [event["event"] for event in told].count("saved") == len(pictures), one


@pytest.mark.parametrize(
    ("command", "made"),
    [
        (("convert", str(BUILT_IN), "made"), "made"),
        (("embed", "encode", "-p", "a red apple", "-o", "made.safetensors"), "made.safetensors"),
        (("embed", "init", "<fruit>", "--from", "apple", "-o", "made.pt"), "made.pt"),
        (("run", "a.png", "-p", "a red apple", "--save-preset", "made.toml"), "made.toml"),
    ],
)
def test_code_and_what_is_made_agree(command: tuple[str, ...], made: str) -> None:
    for one in ends(*command):
        assert (one["code"] == 0) == (made in one["files"]), one
