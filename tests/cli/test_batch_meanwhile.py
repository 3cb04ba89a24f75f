"""What others do to the files of a batch while it is at work: nothing of theirs is lost, and nothing is said to be done
that is not."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.cli import QUICK, events, photo, start

from sdedit_cli.cli.main import run

NAMES = ("a.png", "b.png", "c.png", "d.png")
# So many steps that the first picture is not there yet when the model is said to be loaded.
COMMAND = ("batch", "in", "out", "--steps", "8", "--strength", "1", "--dtype", "fp32", "--batch-size", "1", "-q")

pytestmark = pytest.mark.skipif(os.name == "nt", reason="stops by signals")


@pytest.fixture(autouse=True)
def source(folder: Path) -> Path:
    (folder / "in").mkdir()
    for number, name in enumerate(NAMES):
        photo(folder / "in" / name, (64, 40 + 8 * number))
    return folder / "in"


def disturbed(change: Callable[[], object], *more: str) -> tuple[int, list[dict[str, Any]]]:
    """The exit code and the events of a batch during which something else happens, before its first picture."""
    told: list[dict[str, Any]] = []
    with start(*COMMAND, "--json", *more, cwd=Path.cwd(), stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        for line in process.stdout:
            told.append(json.loads(line))
            if told[-1]["event"] == "load":
                process.send_signal(signal.SIGSTOP)
                change()
                process.send_signal(signal.SIGCONT)
                break
        told += events(process.stdout.read())
    return process.returncode, told


@pytest.mark.parametrize("again", [False, True], ids=["new", "stale"])
def test_what_others_write_to_an_output_meanwhile_is_not_lost(source: Path, again: bool) -> None:
    if again:
        assert run([*COMMAND]) == 0
    inputs = {path: path.read_bytes() for path in source.iterdir()}

    def change() -> None:
        Path("out").mkdir(exist_ok=True)
        Path("out/a.png").write_bytes(b"mine")
        Path("out/b.png").unlink(missing_ok=True)
        Path("out/b.png").symlink_to("../in/d.png")
        Path("out/c.png").unlink(missing_ok=True)

    code, told = disturbed(change, "--cfg-scale", "2")
    assert code == 4
    failed = {one["input"]: one for one in told if one["event"] == "failed"}
    assert sorted(failed) == ["in/a.png", "in/b.png"]
    assert {one["word"] for one in failed.values()} == {"output-unwritable"}
    assert "out/a.png: another program wrote to it meanwhile; it is left as it is" in failed["in/a.png"]["error"]
    assert Path("out/a.png").read_bytes() == b"mine"
    assert {path: path.read_bytes() for path in source.iterdir()} == inputs
    assert run([*COMMAND, "--cfg-scale", "2"]) == 4, "and it is not ours afterwards"
    assert Path("out/a.png").read_bytes() == b"mine"
    for name in ("a.png", "b.png"):
        Path("out", name).unlink()
    assert run([*COMMAND, "--cfg-scale", "2"]) == 0
    assert run([*COMMAND, "--cfg-scale", "2", "--check"]) == 0


def test_who_asks_for_it_has_replaced_what_came_meanwhile_too() -> None:
    def change() -> None:
        Path("out").mkdir(exist_ok=True)
        Path("out/a.png").write_bytes(b"mine")

    assert disturbed(change, "--on-exists", "overwrite")[0] == 0
    assert run([*COMMAND, "--check"]) == 0


@pytest.mark.parametrize("lost", ["out", "out/.sdedit"])
def test_a_destination_that_is_removed_meanwhile_ends_the_batch_before_it_writes_what_nobody_would_know(
    lost: str,
) -> None:
    code, told = disturbed(lambda: shutil.rmtree(lost))
    assert code == 3
    assert "was removed, moved away or replaced while the batch was at work" in told[-1]["error"]
    assert not list(Path().glob("out/*.png"))
    assert run([*COMMAND]) == 0
    assert run([*COMMAND, "--check"]) == 0


def test_a_stream_of_jobs_ends_with_its_journal(source: Path) -> None:
    """Nothing more is edited that nobody would know."""
    streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with start("batch", "-", "out", *QUICK, "--json", cwd=Path.cwd(), **streams) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b'{"input": "in/a.png"}\n')
        process.stdin.flush()
        while json.loads(process.stdout.readline())["event"] != "saved":
            pass
        shutil.rmtree("out/.sdedit")
        process.stdin.write(b'{"input": "in/b.png"}\n{"input": "in/c.png"}\n')
        process.stdin.close()
        told = events(process.stdout.read())
    assert process.returncode == 3
    assert "was removed, moved away or replaced while the batch was at work" in told[-1]["error"]
    assert "in/c.png" not in [one.get("input") for one in told]
    assert [path.name for path in Path("out").rglob("*.png")] == ["a.png"]


def test_all_that_is_made_of_an_input_edited_in_its_place_stays_fresh(source: Path) -> None:
    (source / "a.png").rename(source / "1.png")
    command = ["batch", "in/1.png", "in/{n}.png", *COMMAND[3:], "--count", "2", "--on-exists", "overwrite"]
    for settings in ([], ["--cfg-scale", "2"]):
        assert run([*command, *settings]) == 0
        assert run([*command, *settings, "--check"]) == 0
