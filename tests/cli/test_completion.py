"""Completion in every shell that we name."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.cli import sdedit

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
        ("sdedit run --bits 1", ["16"]),
        ("sdedit run --sampler dpmpp_2m_k", ["dpmpp_2m_karras"]),
        ("sdedit run --preset qu", ["quick"]),
        ("sdedit run --device cu", ["cuda", "cuda:N"]),
        ("sdedit run -m mi", ["mine"]),
        ("sdedit run --lora m", ["mist"]),
    ],
)
def test_words_are_completed(folder: Path, words: str, expected: list[str]) -> None:
    (folder / "models" / "mine").mkdir(parents=True)
    (folder / "models" / "mine" / "model_index.json").touch()
    (folder / "loras").mkdir()
    for name in ("mist.safetensors", "my own.safetensors"):
        (folder / "loras" / name).touch()
    position = str(len(words.split()) - 1)
    request = {
        VARIABLE: "bash_complete",
        "COMP_WORDS": words,
        "COMP_CWORD": position,
        "SDEDIT_MODELS": str(folder / "models"),
        "SDEDIT_LORAS": str(folder / "loras"),
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
