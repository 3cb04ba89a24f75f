"""How a run ends when somebody ends it: signals, closed pipes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers.cli import QUICK, environment, leftovers, one_line, photo, start

LONG = ("--steps", "500", "--strength", "1", "--seed", "1", "--dtype", "fp32", "--device", "cpu")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["Ctrl-C", "SIGTERM"])
def test_a_signal_in_the_loop_ends_it_cleanly(folder: Path, number: signal.Signals, code: int) -> None:
    photo(folder / "a.png")
    with start("run", "a.png", "--json", *LONG, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        for line in process.stdout:
            if json.loads(line)["event"] == "step":
                process.send_signal(number)
                break
        rest = [json.loads(line) for line in process.stdout]
        err = process.stderr.read()
        assert process.wait(60) == code
    assert (rest[-1]["event"], rest[-1]["ok"], rest[-1]["exit_code"]) == ("end", False, code)
    assert b"Traceback" not in err
    assert not list(folder.glob("*.edited*"))
    assert not leftovers(folder)


def test_pictures_finished_before_a_signal_are_kept(folder: Path) -> None:
    for name in ("a", "b"):
        photo(folder / f"{name}.png")
    words = ["run", "a.png", "b.png", "--json", "--steps", "40", "--strength", "1", "--dtype", "fp32"]
    with start(*words, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        for line in process.stdout:
            event = json.loads(line)
            if event["event"] == "step" and event["input"] == "b.png":
                process.send_signal(signal.SIGTERM)
                break
        end = [json.loads(line) for line in process.stdout][-1]
        assert process.wait(60) == 143
    assert (end["saved"], end["exit_code"]) == (1, 143)
    assert [path.name for path in folder.glob("*.edited*")] == ["a.edited.png"]


def test_a_signal_before_the_model_is_loaded_ends_it_too(folder: Path) -> None:
    photo(folder / "a.png")
    with start("run", "a.png", "--json", *LONG, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["event"] == "start"
        process.send_signal(signal.SIGTERM)
        end = [json.loads(line) for line in process.stdout][-1]
        assert process.wait(60) == 143
    assert (end["event"], end["exit_code"]) == ("end", 143)


_EARLY = """
import os, sys
from sdedit_cli import __main__ as entry

class Signalled:
    def find_spec(self, name, path=None, target=None):
        if name == "sdedit_cli.cli.main":
            os.kill(os.getpid(), int(sys.argv[1]))

sys.meta_path.insert(0, Signalled())
entry.main()
"""


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_two_signals_while_an_event_is_told_cost_no_end(folder: Path, first: signal.Signals) -> None:
    """As a supervisor sends them that does not wait."""
    photo(folder / "a.png")
    with start("run", "a.png", "--json", *LONG, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        told: list[dict[str, Any]] = []
        for line in process.stdout:
            told.append(json.loads(line))
            if told[-1]["event"] == "step" and told[-1]["step"] == 1:
                for number in (first, signal.SIGINT, signal.SIGTERM):
                    process.send_signal(number)
        code = process.wait(60)
    assert code in (130, 143)
    assert (told[-1]["event"], told[-1]["exit_code"]) == ("end", code)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["Ctrl-C", "SIGTERM"])
def test_a_signal_while_the_command_is_imported_ends_it_too(folder: Path, number: signal.Signals, code: int) -> None:
    words = [sys.executable, "-c", _EARLY, str(int(number)), "--json"]
    done = subprocess.run(words, cwd=folder, env=environment(), capture_output=True, check=False)
    assert done.returncode == code
    assert one_line(done.stderr) in ("sdedit: interrupted", "sdedit: terminated")
    end = json.loads(done.stdout)
    assert (end["event"], end["ok"], end["exit_code"]) == ("end", False, code)
    assert end["word"] == end["error"] in ("interrupted", "terminated")


@pytest.mark.parametrize("words", [["-o", "-"], ["--json"]], ids=["picture", "events"])
def test_a_reader_that_has_gone_is_no_drama(folder: Path, words: list[str]) -> None:
    photo(folder / "a.png")
    with start("run", "a.png", *words, *QUICK, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        err = process.stderr.read()
        assert process.wait(60) == 3
    assert b"Traceback" not in err
    assert b"Exception ignored" not in err
    assert b"BrokenPipe" not in err


def test_help_into_a_closed_pipe_is_quiet(folder: Path) -> None:
    with start("run", "--help", cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        process.wait(60)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="has no /dev/full")
@pytest.mark.parametrize("words", [["-o", "-"], ["--json"]], ids=["picture", "events"])
def test_a_full_stdout_is_told(folder: Path, words: list[str]) -> None:
    photo(folder / "a.png")
    with open("/dev/full", "wb") as full:
        process = start("run", "a.png", *words, *QUICK, cwd=folder, stdout=full, stderr=subprocess.PIPE)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 3
    assert "stdout: cannot be written (No space left on device)" in one_line(err)


@pytest.mark.skipif(os.name != "posix", reason="closes a stream through the shell")
@pytest.mark.parametrize(
    ("words", "redirect", "code"),
    [
        ("--help", ">/dev/full", 3),
        ("run --json --nope", ">/dev/full", 2),
        ("run a.png --json", ">&-", 3),
        ("run none.png --json", "2>&-", 3),
        ("run none.png", "2>/dev/full", 3),
        ("run a.png --dry-run", ">&- 2>&-", 0),
        ("run a.png --dry-run", ">&-", 0),
        ("info a.png", ">&-", 3),
        ("info a.png", ">&- 2>&-", 3),
        ("info none.png --json", ">&-", 3),
        ("samplers", ">&-", 3),
        ("--version", ">&-", 3),
        ("completion bash", ">&-", 3),
    ],
)
def test_streams_that_are_closed_or_full_end_a_command_as_they_should(
    folder: Path, words: str, redirect: str, code: int
) -> None:
    photo(folder / "a.png")
    line = f"exec {sys.executable} -m sdedit_cli {words} {redirect}"
    done = subprocess.run(["sh", "-c", line], cwd=folder, env=environment(), capture_output=True, check=False)
    assert done.returncode == code


@pytest.mark.skipif(os.name != "posix", reason="closes a stream through the shell")
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_what_a_library_could_not_tell_changes_no_exit_code(folder: Path, unbuffered: str) -> None:
    tell = "import contextlib, sys\nwith contextlib.suppress(OSError): sys.stderr.write('a word without an end')"
    script = f"{tell}\nfrom sdedit_cli.cli.main import main\nmain(['run', 'none.png'])"
    (folder / "told.py").write_text(script, encoding="utf-8")
    env = environment(PYTHONUNBUFFERED=unbuffered)
    line = f"exec {sys.executable} told.py 2>/dev/full"
    done = subprocess.run(["sh", "-c", line], cwd=folder, env=env, capture_output=True, check=False)
    assert done.returncode == 3
    assert b"Traceback" not in done.stderr
