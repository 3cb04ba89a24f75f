"""What a command line imports: users who ask for help must not wait for torch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.cli import QUICK, environment, photo

from sdedit_cli.cli.main import COMMANDS, command

HEAVY = ("torch", "transformers", "numpy", "scipy", "torchsde", "diffusers", "PIL", "rich", "tokenizers", "safetensors")
AVAILABLE = [name for name in COMMANDS if name in command.list_commands(None)]  # pyright: ignore[reportArgumentType]

_SPY = """
import json, sys
from sdedit_cli.cli.main import run
code = run(sys.argv[2:])
json.dump([code, sorted(sys.modules)], open(sys.argv[1], "w"))
"""


def imported(folder: Path, *arguments: str) -> tuple[int, set[str]]:
    """The exit code of a command line, and the top-level packages that it imported."""
    report = folder / "modules.json"
    spied = [sys.executable, "-c", _SPY, str(report), *arguments]
    subprocess.run(spied, cwd=folder, env=environment(), capture_output=True, timeout=300, check=True)
    code, modules = json.loads(report.read_text())
    return code, {name.split(".")[0] for name in modules}


def heavy(modules: set[str]) -> list[str]:
    return [name for name in HEAVY if name in modules]


@pytest.mark.parametrize(
    "words", [["--help"], ["--version"], [], *([name, "--help"] for name in AVAILABLE)], ids=" ".join
)
def test_help_imports_nothing_heavy(folder: Path, words: list[str]) -> None:
    code, modules = imported(folder, *words)
    assert code == 0
    assert not heavy(modules)


@pytest.mark.parametrize(
    "words",
    [
        ["runn"],
        ["run"],
        ["run", "--no-such-option"],
        ["run", "none.png"],
        ["run", "x.png", "--strength", "1.2"],
        ["run", "x.png", "--strength", "0.001"],
        ["run", "x.png", "--sampler", "eular"],
        ["run", "x.png", "--preset", "none"],
        ["run", "x.png", "-m", "none"],
        ["run", "x.png", "-o", "x.bmp"],
    ],
    ids=" ".join,
)
def test_usage_errors_import_nothing_heavy(folder: Path, words: list[str]) -> None:
    code, modules = imported(folder, *words)
    assert code in (2, 3)
    assert not heavy(modules)


def test_a_dry_run_reads_the_picture_and_loads_no_model(folder: Path) -> None:
    photo(folder / "a.png")
    code, modules = imported(folder, "run", "a.png", "--dry-run")
    assert code == 0
    assert heavy(modules) == ["PIL"]


def test_a_cold_run_imports_what_it_uses_alone(folder: Path) -> None:
    photo(folder / "a.png")
    code, modules = imported(folder, "run", "a.png", *QUICK)
    assert code == 0
    unused = (
        "transformers",
        "diffusers",
        "scipy",
        "torchsde",
        "rich",
        "huggingface_hub",
        "torchvision",
        "sympy",
        "tomllib",
    )
    assert [name for name in unused if name in modules] == []
