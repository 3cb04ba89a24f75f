"""Completion in every shell that we name."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest
from helpers.cli import environment, sdedit

from sdedit_cli.cli.completion import SHELLS, VARIABLE
from sdedit_cli.cli.main import run


@pytest.mark.parametrize("shell", SHELLS)
def test_every_shell_gets_its_script(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert VARIABLE in script
    assert f"{shell}_complete" in script


def test_an_unknown_shell_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["completion", "tcsh"]) == 2
    assert "'tcsh' is not one of" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("sdedit ru", ["run"]),
        ("sdedit run --stre", ["--strength"]),
        ("sdedit run --schedule ka", ["karras"]),
        ("sdedit run --sampler dpmpp_2m_k", ["dpmpp_2m_karras"]),
        ("sdedit run --preset qu", ["quick"]),
        ("sdedit run --device cu", ["cuda", "cuda:N"]),
        ("sdedit run -m mi", ["mine"]),
    ],
)
def test_words_are_completed(folder: Path, words: str, expected: list[str]) -> None:
    (folder / "models" / "mine").mkdir(parents=True)
    (folder / "models" / "mine" / "model_index.json").touch()
    position = str(len(words.split()) - 1)
    request = {
        VARIABLE: "bash_complete",
        "COMP_WORDS": words,
        "COMP_CWORD": position,
        "SDEDIT_MODELS": str(folder / "models"),
    }
    done = sdedit(cwd=folder, more=request)
    assert [line.split(",")[1] for line in done.stdout.decode().splitlines()] == expected


def test_powershell_asks_in_its_own_way(folder: Path) -> None:
    request = {VARIABLE: "powershell_complete", "COMP_WORDS": "sdedit run --stre", "COMP_WORD": "--stre"}
    done = sdedit(cwd=folder, more=request)
    (line,) = done.stdout.decode().splitlines()
    assert line.startswith("plain\t--strength\tHow far")


def test_a_missing_shell_is_told_in_two_lines(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["completion"]) == 2
    said = capsys.readouterr().err
    assert len(said.splitlines()) <= 2
    assert "powershell" in said


@pytest.mark.parametrize("words", ["run", "run a.png -o", "run --like", "run -m", "run --vae", "run --config", "info"])
def test_files_are_left_to_the_shell(folder: Path, words: str) -> None:
    line = f"sdedit {words} ph"
    request = {VARIABLE: "bash_complete", "COMP_WORDS": line, "COMP_CWORD": str(len(line.split()) - 1)}
    done = sdedit(cwd=folder, more=request)
    assert done.stdout.decode().splitlines() == ["file,ph"]


_STAND_IN = f"""#!/bin/sh
# Bash asks this for completions; a line that was typed to its end is shown.
if [ -n "${VARIABLE}" ] || [ "$1" = completion ]; then exec {sys.executable} -m sdedit_cli "$@"; fi
echo "typed: $*"
"""


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize("words", ["run", "run a.png -o", "run --like", "run -m", "run --vae", "run --config", "info"])
def test_bash_fills_them_in(folder: Path, words: str) -> None:
    """bash itself, as at a prompt."""
    import pty

    (folder / "photo-1.png").touch()
    (folder / "bin").mkdir()
    (folder / "bin" / "sdedit").write_text(_STAND_IN)
    (folder / "bin" / "sdedit").chmod(0o755)
    (folder / "rc").write_text("eval \"$(sdedit completion bash)\"\nPS1='ready> '\n")
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ.update(environment(TERM="dumb", PATH=f"{folder / 'bin'}:{os.environ['PATH']}"))
        os.execvp("bash", ["bash", "--noprofile", "--rcfile", str(folder / "rc"), "-i"])
    seen = bytearray()
    while b"ready> " not in seen:
        seen += os.read(terminal, 1024)
    os.write(terminal, f"sdedit {words} pho\t\nexit\n".encode())
    try:
        while chunk := os.read(terminal, 1024):
            seen += chunk
    except OSError:
        pass  # the shell has left its terminal
    os.waitpid(pid, 0)
    assert f"typed: {words} photo-1.png".encode() in seen
