"""Presets on the command line: tables that set a command's own options, and files written from what was given."""

from __future__ import annotations

import json
from pathlib import Path

import click
import pytest
from helpers.cli import QUICK, events, leftovers, one_line, photo

from sdedit_cli.cli.main import command, run
from sdedit_cli.options import edit_from
from sdedit_cli.pictures.carriers import find
from sdedit_cli.presets import COMMANDS, load_preset, read_toml

OWN = Path("home") / "sdedit" / "presets"


@pytest.fixture
def own(folder: Path) -> Path:
    """The user's preset folder, as the platform has it here."""
    found = folder.parent / OWN
    found.mkdir(parents=True)
    return found


def test_the_commands_that_take_presets_are_those_that_have_tables() -> None:
    ctx = click.Context(command)
    found = [(name, command.get_command(ctx, name)) for name in command.list_commands(ctx)]
    assert {name for name, one in found if one and any(param.name == "presets" for param in one.params)} == {*COMMANDS}


def test_a_table_sets_what_the_command_line_does_not(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Later presets win, the command line wins over all, and one command's table does nothing to the other."""
    (folder / "in").mkdir()
    photo(folder / "in" / "a.png")
    (folder / "a.toml").write_text(
        '[batch]\nformat = "webp"\nprompt-prefix = "pixel art of "\nexclude = ["no*"]\n[run]\nformat = "jpeg"\n'
    )
    (folder / "b.toml").write_text('[batch]\nformat = "jpeg"\n')
    cases: list[tuple[list[str], str]] = [
        (["batch", "in", "out", "--preset", "a.toml"], "out/a.webp"),
        (["batch", "in", "out", "--preset", "a.toml", "--preset", "b.toml"], "out/a.jpg"),
        (["batch", "in", "out", "--preset", "b.toml", "--preset", "a.toml"], "out/a.webp"),
        (["batch", "in", "out", "--format", "png", "--preset", "a.toml"], "out/a.png"),
        (["batch", "in", "out", "--preset", "a.toml", "--format", "png"], "out/a.png"),
        (["run", "in/a.png", "--preset", "a.toml"], "in/a.edited.jpg"),
    ]
    for words, output in cases:
        assert run([*words, "-p", "a house", "--dry-run"]) == 0
        assert f"-> {Path(output)} " in capfd.readouterr().err, words
    assert run(["batch", "in", "out", "--preset", "a.toml", "-p", "a house", "--json", *QUICK]) == 0
    assert find("out/a.webp").layer.values["prompt"] == "pixel art of a house"


def test_a_bad_table_is_told_before_anything_runs(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    photo(folder / "a.png")
    (folder / "p.toml").write_text("[batch]\nlimit = 0\n")
    assert run(["run", "a.png", "--preset", "p.toml", "--json", *QUICK]) == 3
    told = capfd.readouterr()
    assert "preset p.toml: [batch] limit: 0 is not in the range" in one_line(told.err)
    assert events(told.out)[-1]["event"] == "end"
    assert run(["run", "--preset", "p.toml", "--help"]) == 0


def test_a_preset_of_the_command_line_is_written_and_works(
    folder: Path, own: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """By name it goes among the user's own; nothing is edited; it means what the command line meant."""
    photo(folder / "a.png")
    words = ["--preset", "quick", "-p", 'a "house"', "--strength", "0.35", "--format", "webp", "--no-weighting"]
    assert run(["run", "a.png", *words, "--save-preset", "mine"]) == 0
    assert "edited nothing; use it with --preset mine" in capfd.readouterr().err
    assert sorted(path.name for path in folder.iterdir()) == ["a.png"]
    text = (own / "mine.toml").read_text()
    assert "# How far to go from the input" in text
    assert read_toml(own / "mine.toml") == {
        "description": "",
        "extends": "quick",
        "prompt": 'a "house"',
        "strength": 0.35,
        "weighting": False,
        "run": {"format": "webp"},
    }
    assert run(["presets", "--json"]) == 0
    listed = {one["name"]: one for one in map(json.loads, capfd.readouterr().out.splitlines())}
    assert listed["mine"]["from"] == str(own / "mine.toml")
    assert listed["mine"]["extends"] == ["quick"]
    outputs: list[bytes] = []
    for given in (words, ["--preset", "mine"]):
        run(["run", "a.png", *given, *QUICK[:2], *QUICK[4:], "--on-exists", "overwrite"])
        outputs.append((folder / "a.edited.webp").read_bytes())
    assert outputs[0] == outputs[1]


def test_a_preset_in_a_file_names_what_it_extends_from_there(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (folder / "in").mkdir()
    (folder / "base.toml").write_text("steps = 9\n[batch]\nseed-mode = 'name'\n")
    line = ["batch", "in", "--preset", "base.toml", "--include", "u*", "--include", "v*", "--batch-size", "auto"]
    assert run([*line, "--save-preset", "presets/p.toml"]) == 0
    found = load_preset("presets/p.toml")
    assert found.extends == ("../base.toml",)
    assert found.layer.values == {"steps": 9}
    table = {"seed-mode": "name", "include": ["u*", "v*"], "batch-size": "auto"}
    assert found.commands == {"batch": table}
    assert not leftovers(folder)


def test_a_preset_takes_the_settings_of_a_picture(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    photo(folder / "a.png")
    assert run(["run", "a.png", "-p", "a house", "-o", "b.png", *QUICK]) == 0
    assert run(["run", "a.png", "--like", "b.png", "--cfg-scale", "3", "--save-preset", "p.toml"]) == 0
    edit = edit_from([load_preset("p.toml").layer])
    assert (edit.prompt, edit.steps, edit.strength, edit.seed, edit.cfg_scale) == ("a house", 2, 0.5, 1, 3.0)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--save-preset", "there.toml"], 3, "there.toml: exists already; --on-exists overwrite replaces it"),
        (["--save-preset", "dir/a"], 2, "a preset's file ends in .toml"),
        (["--save-preset", "folder.toml"], 3, "is a folder"),
        (["--save-preset", "a.png/p.toml"], 3, "cannot be a folder"),
        (["--sampler", "eulr", "--save-preset", "p.toml"], 2, "unknown sampler"),
        (["-m", "nope", "--save-preset", "p.toml"], 3, "no such path"),
        (["--strength", "0.001", "--save-preset", "p.toml"], 2, "runs no step"),
    ],
)
def test_a_preset_is_not_written_over_another_or_of_nonsense(
    folder: Path, words: list[str], code: int, said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    photo(folder / "a.png")
    (folder / "there.toml").write_text("steps = 1\n")
    (folder / "folder.toml").mkdir()
    before = sorted(path.name for path in folder.iterdir())
    assert run(["run", "a.png", *words]) == code
    assert said in one_line(capfd.readouterr().err)
    assert sorted(path.name for path in folder.iterdir()) == before
    assert (folder / "there.toml").read_text() == "steps = 1\n"


def test_a_preset_is_replaced_when_that_was_asked_for(folder: Path) -> None:
    photo(folder / "a.png")
    (folder / "p.toml").write_text("steps = 1\n")
    assert run(["run", "a.png", "--steps", "7", "--save-preset", "p.toml", "--on-exists", "overwrite"]) == 0
    assert read_toml(folder / "p.toml") == {"description": "", "steps": 7}


def test_a_preset_is_not_written_over_one_that_it_would_begin_with(
    folder: Path, own: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """What it held would be lost, and it could not be used."""
    photo(folder / "a.png")
    own.mkdir(parents=True, exist_ok=True)
    texts = {"mine": "steps = 9\n", "more": "extends = 'mine'\n"}
    for name, text in texts.items():
        (own / f"{name}.toml").write_text(text)
    for given, target in (("mine", "mine"), ("more", "mine"), ("mine", str(own / "mine.toml"))):
        words = ["--preset", given, "--strength", "0.5", "--save-preset", target, "--on-exists", "overwrite"]
        assert run(["run", "a.png", *words]) == 2
        assert "it would extend itself; save it under another name" in one_line(capfd.readouterr().err)
    assert {name: (own / f"{name}.toml").read_text() for name in texts} == texts


def test_a_preset_may_begin_with_one_of_another_folder(folder: Path, own: Path) -> None:
    photo(folder / "a.png")
    (folder / "team").mkdir()
    (folder / "team" / "base.toml").write_text("steps = 9\n")
    (own.parent / "config.toml").write_text(f"[presets]\nfolders = [{json.dumps(str(folder / 'team'))}]\n")
    assert run(["run", "a.png", "--preset", "base", "--strength", "0.5", "--save-preset", "mine"]) == 0
    assert run(["run", "a.png", "--preset", "mine", "--dry-run"]) == 0


def test_a_preset_that_hides_one_of_ours_says_so(folder: Path, own: Path, capfd: pytest.CaptureFixture[str]) -> None:
    photo(folder / "a.png")
    assert run(["run", "a.png", "--steps", "7", "--save-preset", "quick"]) == 0
    assert "hides the preset 'quick' that comes with sdedit" in capfd.readouterr().err
    assert run(["presets"]) == 0
    told = capfd.readouterr().out
    assert f"{own / 'quick.toml'}\n    hides one that comes with sdedit" in told
    assert f"Your own go into {own}" in told
    assert run(["run", "a.png", "--preset", "quick", "--dry-run"]) == 0
    assert "quick.toml, which hides the one that comes with sdedit" in capfd.readouterr().err
