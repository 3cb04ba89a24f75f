"""The recipes of docs/batch.md run as they stand: the page's blocks are carried out on tiny pictures."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.cli import ROOT, environment, photo
from PIL import Image

from sdedit_cli.cli.main import run as main

PAGE = (ROOT / "docs" / "batch.md").read_text(encoding="utf-8")
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
RECIPES = PAGE.split("\n## Recipes\n")[1].split("\n## ")[0]
# heading -> the languages of its blocks, in their order
BLOCKS = {
    "A folder every night": ["sh", "cron"],
    "Sprites beside their sources, checked in CI": ["toml", "sh", "yaml"],
    "Before each commit": ["sh"],
    "A sheet of sprites": ["python", "sh", "python"],
    "From Python, with the model kept warm": ["python"],
    "From Node": ["js"],
}


def blocks(heading: str) -> list[str]:
    """The code under a heading of the recipes."""
    text = RECIPES.split(f"### {heading}\n")[1].split("\n### ")[0]
    found = FENCE.findall(text)
    assert [language for language, _ in found] == BLOCKS[heading]
    return [code for _, code in found]


def test_every_block_of_the_recipes_is_run_here() -> None:
    assert re.findall(r"^### (.*)$", RECIPES, re.MULTILINE) == list(BLOCKS)
    assert len(FENCE.findall(RECIPES)) == sum(map(len, BLOCKS.values())) == 11


@pytest.fixture
def place(folder: Path, tmp_path: Path) -> Path:
    """A working folder with a picture, where `sdedit` is this one, at one step."""
    binaries = tmp_path / "bin"
    binaries.mkdir()
    shim = binaries / "sdedit"
    shim.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m sdedit_cli "$@"\n')
    shim.chmod(0o755)
    photo(folder / "a.png", (32, 24))
    return folder


def run(place: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """A finished command of a recipe, whatever it ended with."""
    if shutil.which(words[0]) is None:
        pytest.skip(f"{words[0]} is not on this machine")
    bin_folder = place.parent / "bin"
    more = {
        "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(place.parent / "home"),
        "XDG_CONFIG_HOME": str(place.parent / "home"),
        **{f"SDEDIT_{name}": value for name, value in (("STEPS", "2"), ("DTYPE", "fp32"), ("DEVICE", "cpu"))},
    }
    return subprocess.run(
        words, cwd=place, env=environment(**more), capture_output=True, text=True, timeout=120, check=False
    )


def sh(place: Path, code: str) -> subprocess.CompletedProcess[str]:
    return run(place, "sh", "-c", code)


def statuses(text: str) -> list[str]:
    return [event["event"] for event in map(json.loads, text.splitlines()) if event["event"] in ("saved", "skipped")]


def test_the_lists_of_the_page_mean_what_it_says(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The CSV file makes the two outputs that are named beside it, the TOML file the product of its lists."""
    lists = dict(FENCE.findall(PAGE.split("## Prompts and seeds")[0]))
    (folder / "prompts.csv").write_text(lists["csv"])
    (folder / "jobs.toml").write_text(lists["toml"])
    for name in ("sprites/cat", "sprites/key", "drawings/a", "drawings/b"):
        (folder / name).parent.mkdir(exist_ok=True)
        photo(folder / f"{name}.png", (32, 24))
    outputs: list[list[str]] = []
    for words in (["prompts.csv", "out/", "--strength", "0.6"], ["jobs.toml", "out/"]):
        assert main(["batch", *words, "--dry-run", "--json"]) == 0
        told = map(json.loads, capfd.readouterr().out.splitlines())
        outputs.append([Path(event["output"]).as_posix() for event in told if event["event"] == "plan"])
    assert sorted(outputs[0]) == ["out/icons/key.png", "out/sprites/cat.png"]
    assert all(f"`{output}`" in PAGE for output in outputs[0])
    assert len(set(outputs[1])) == 2 * 2 * 2


def test_a_folder_every_night(place: Path) -> None:
    script, cron = blocks("A folder every night")
    assert re.fullmatch(r"(\S+ ){5}\$HOME/art/nightly\.sh\n", cron)
    art = place.parent / "home" / "art"
    (art / "in").mkdir(parents=True)
    for name in ("one", "two"):
        photo(art / "in" / f"{name}.png", (32, 24))
    (art / "nightly.sh").write_text(script)
    log = art / "log.jsonl"
    assert run(place, "sh", str(art / "nightly.sh")).returncode == 0
    assert statuses(log.read_text()) == ["saved", "saved"]
    log.unlink()
    (art / "in" / "two.png").unlink()
    assert run(place, "sh", str(art / "nightly.sh")).returncode == 0
    assert statuses(log.read_text()) == ["skipped"]
    assert json.loads(log.read_text().splitlines()[-1])["ok"]
    assert [path.name for path in (art / "out").glob("*.png")] == ["one.png"]
    assert (art / "report.html").is_file()


def test_sprites_are_checked_in_ci_and_before_each_commit(place: Path) -> None:
    preset, make, workflow = blocks("Sprites beside their sources, checked in CI")
    (hook,) = blocks("Before each commit")
    (place / "sprites" / "ui").mkdir(parents=True)
    for name in ("hero", "ui/button"):
        photo(place / "sprites" / f"{name}.png", (32, 24))
    (place / "sprites.toml").write_text(preset)
    steps = [step for step in re.findall(r"^ +- run: (.*)$", workflow, re.MULTILINE) if not step.startswith("pip ")]
    assert len(steps) == 1
    assert run(place, "git", "init", "-q").returncode == 0
    target = place / ".git" / "hooks" / "pre-commit"
    assert ".git/hooks/pre-commit" in hook
    target.parent.mkdir(exist_ok=True)
    target.write_text(hook)
    target.chmod(0o755)
    run(place, "git", "add", "sprites.toml")
    commit = ("git", "-c", "user.name=a", "-c", "user.email=a@b.c", "commit", "-q", "-m", "x")
    assert sh(place, steps[0]).returncode == 6
    refused = run(place, *commit)
    assert refused.returncode == 1
    assert "hero.png: not made yet" in refused.stderr
    assert "git add out" in refused.stderr
    assert sh(place, make).returncode == 0
    assert (place / "out" / "ui" / "button.png").is_file()
    assert sh(place, steps[0]).returncode == 0
    assert run(place, *commit).returncode == 0
    photo(place / "sprites" / "hero.png", (24, 32))
    checked = sh(place, steps[0])
    assert checked.returncode == 6
    assert "input changed" in checked.stderr
    assert "input changed" in (place / "report.xml").read_text()


def test_a_sheet_of_sprites(place: Path) -> None:
    """What was transparent stays so, and every cell is another picture than before."""
    cut, edit, paste = blocks("A sheet of sprites")
    photo(place / "sheet.png", (128, 64), "RGBA")
    sheet = Image.open(place / "sheet.png")
    sheet.putalpha(sheet.getchannel("R").point(lambda level: 255 if level > 90 else 0))
    sheet.save(place / "sheet.png")
    assert run(place, sys.executable, "-c", cut).returncode == 0
    assert sh(place, edit).returncode == 0
    assert run(place, sys.executable, "-c", paste).returncode == 0
    edited = Image.open(place / "sheet.edited.png")
    assert edited.size == sheet.size
    assert edited.getchannel("A").tobytes() == sheet.getchannel("A").tobytes()
    for x in (0, 64):
        box = (x, 0, x + 64, 64)
        assert edited.convert("RGB").crop(box).tobytes() != sheet.convert("RGB").crop(box).tobytes()


def test_a_co_process_driven_from_python(place: Path) -> None:
    (code,) = blocks("From Python, with the model kept warm")
    done = run(place, sys.executable, "-c", code)
    assert done.returncode == 0
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["saved", "saved"]
    assert sorted(path.name for path in (place / "out").glob("*.png")) == ["house.png", "tree.png"]


@pytest.mark.slow
def test_a_co_process_driven_from_node(place: Path) -> None:
    (code,) = blocks("From Node")
    (place / "edit.js").write_text(code)
    done = run(place, "node", "edit.js")
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["saved", "saved"]
    assert sorted(path.name for path in (place / "out").glob("*.png")) == ["apple.png", "bus.png"]
