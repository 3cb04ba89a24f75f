"""One batch at a time on one destination: the second is told who holds it, and a holder that died holds nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest
from helpers.cli import environment

from sdedit_cli.batch.lock import locked, locked_folder
from sdedit_cli.errors import OutputError

HOLD = """
import sys
from pathlib import Path
from sdedit_cli.batch.lock import locked_folder
shard = tuple(map(int, sys.argv[2].split("/"))) if len(sys.argv) > 2 else None
with locked_folder(Path(sys.argv[1]), shard):
    print("held", flush=True)
    sys.stdin.read()
"""


def holder(folder: Path, *more: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder), *more],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def end(process: subprocess.Popen[str]) -> None:
    process.communicate()


def test_the_second_is_refused_with_the_holder(tmp_path: Path) -> None:
    process = holder(tmp_path / "x")
    for _ in ("the second", "the third"):
        with pytest.raises(OutputError, match=f"process {process.pid} .*--wait"), locked_folder(tmp_path / "x", None):
            raise AssertionError("two hold one lock")
    end(process)
    with locked_folder(tmp_path / "x", None):
        pass


def test_the_holder_that_is_told_is_read_no_further_than_its_name_may_be(tmp_path: Path) -> None:
    process = holder(tmp_path / "x")
    with (tmp_path / "x" / "lock").open("r+b") as file:
        file.truncate(100_000_000)
    tracemalloc.start()
    with pytest.raises(OutputError, match="its process is not known"), locked_folder(tmp_path / "x", None):
        raise AssertionError("two hold one lock")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10_000_000
    end(process)


def test_a_holder_that_was_killed_holds_nothing(tmp_path: Path) -> None:
    process = holder(tmp_path / "x")
    process.kill()
    end(process)
    assert str(process.pid) in (tmp_path / "x" / "lock").read_text(), "it had no time to say that it went"
    with locked_folder(tmp_path / "x", None):
        assert str(os.getpid()) in (tmp_path / "x" / "lock").read_text()


def test_who_waits_is_told_once_and_gets_it(tmp_path: Path) -> None:
    process = holder(tmp_path / "x")
    told: list[str] = []

    def hear(text: str) -> None:
        told.append(text)
        end(process)

    with locked_folder(tmp_path / "x", None, wait=hear):
        pass
    assert len(told) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="locks are not shared there")
def test_parts_work_beside_each_other_and_never_beside_the_whole(tmp_path: Path) -> None:
    process = holder(tmp_path / "x", "1/2")
    with locked_folder(tmp_path / "x", (2, 2)):
        pass
    for shard in (None, (1, 2), (1, 3), (3, 3)):  # parts of another division would do the same jobs
        with pytest.raises(OutputError), locked_folder(tmp_path / "x", shard):
            raise AssertionError("two hold one lock")
    end(process)
    with locked_folder(tmp_path / "x", (1, 3)):
        pass


@pytest.mark.parametrize("text", ["", "no json", "[]", '{"pid": "x"}', '{"pid": 1e999, "host": "x"}', "[" * 200_000])
def test_whatever_stands_in_the_file_the_message_is_one(tmp_path: Path, text: str) -> None:
    path = tmp_path / "lock"
    with locked(path):
        path.write_text(text)
        with pytest.raises(OutputError, match="not known"), locked(path):
            raise AssertionError("two hold one lock")


def test_the_name_of_a_holder_is_shown_as_it_is_and_in_short(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with locked(path):
        path.write_text(json.dumps({"pid": 10**4000, "host": "\x1b[2J" + "x" * 100_000}))
        with pytest.raises(OutputError) as refused, locked(path):
            raise AssertionError("two hold one lock")
    assert "a number of 13288 bits on \\x1b[2Jxxx" in str(refused.value)
    assert len(str(refused.value)) < 400 + len(str(path))


def test_a_place_that_cannot_be_is_told_in_words(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot be written"), locked_folder(tmp_path / ("a" * 300) / ".sdedit", None):
        pass
