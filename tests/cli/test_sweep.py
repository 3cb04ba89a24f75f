"""`sdedit run --sweep` from end to end with the built-in model: the sheet, single pictures, the page."""

from __future__ import annotations

import base64
import json
import os
import re
import shlex
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from helpers.cli import events, leftovers, one_line, photo
from helpers.disks import Unlisted
from PIL import Image

from sdedit_cli.cli.main import run
from sdedit_cli.nn import AutoencoderKL
from sdedit_cli.options import edit_from
from sdedit_cli.pictures.carriers import find

# Without a seed and a strength: those vary.
FEW = ("-p", "a face", "--steps", "4", "--dtype", "fp32", "--device", "cpu", "-q")


@pytest.fixture
def picture(folder: Path) -> Path:
    return photo(folder / "a.png")


def facts_of(path: Path) -> dict[str, Any]:
    with Image.open(path) as sheet:
        return json.loads(sheet.info["sdedit-sweep"])


def test_one_sheet_is_written_and_says_what_made_it(picture: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = ["--sweep", "strength=0.25,0.5", "--sweep", "cfg-scale=1,4", "--seed", "3", *FEW]
    assert run(["run", "a.png", *words, "--json"]) == 0
    assert sorted(path.name for path in Path().iterdir()) == ["a.png", "a.sweep.png"]
    facts = facts_of(Path("a.sweep.png"))
    assert [axis["option"] for axis in facts["axes"]] == ["strength", "cfg-scale"]
    assert [one["at"] for one in facts["pictures"]] == [[0, 0], [0, 1], [1, 0], [1, 1]]
    assert facts["edit"]["seed"] == 3
    assert "strength" not in facts["edit"]
    nearer = [one["distance"] for one in facts["pictures"]]
    assert nearer[0] < nearer[2], "more strength leads further away"
    told = events(capfd.readouterr().out)
    assert [event["event"] for event in told].count("made") == 4
    (sheet,) = [event for event in told if event["event"] == "sheet"]
    assert (sheet["output"], sheet["pictures"]) == ("a.sweep.png", 4)
    assert told[-1]["exit_code"] == 0
    first = Path("a.sweep.png").read_bytes()
    assert run(["run", "a.png", *words]) == 3, "it is there"
    assert run(["run", "a.png", *words, "--on-exists", "overwrite"]) == 0
    assert Path("a.sweep.png").read_bytes() == first


def test_single_pictures_replay_and_are_what_a_batch_makes_of_a_matrix(picture: Path) -> None:
    """A sweep is a list of jobs like any other: the very bytes of `batch` with the same [matrix]."""
    assert run(["run", "a.png", "--sweep", "strength=0.25,0.5", "--sweep", "seed=7,8", "--sweep-dir", "one", *FEW]) == 0
    Path("jobs.toml").write_text('inputs = ["a.png"]\n[matrix]\nstrength = [0.25, 0.5]\nseed = [7, 8]\n')
    assert run(["batch", "jobs.toml", "two", *FEW]) == 0
    names = sorted(path.name for path in Path("one").iterdir())
    assert names == sorted(path.name for path in Path("two").glob("*.png"))
    assert len(names) == 4
    for name in names:
        assert (Path("one") / name).read_bytes() == (Path("two") / name).read_bytes(), name
    edit = edit_from([find("one/a-strength-0.5_seed-8.png").layer])
    assert (edit.prompt, edit.seed, edit.strength) == ("a face", 8, 0.5)
    assert not leftovers(Path())


def test_a_picture_and_each_prompt_are_encoded_once(picture: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sdedit_cli.engine.prompts import PromptEncoder

    counts = {"pictures": 0, "prompts": 0}
    for of, method, what in ((AutoencoderKL, "encode", "pictures"), (PromptEncoder, "read", "prompts")):
        whole = getattr(of, method)

        def counted(*args: Any, whole: Any = whole, what: str = what) -> Any:
            counts[what] += 1
            return whole(*args)

        monkeypatch.setattr(of, method, counted)
    sweep = ["--sweep", "prompt=a face,a dog", "--sweep", "seed=1,2", "--sweep", "strength=0.25,0.5"]
    assert run(["run", "a.png", *sweep, *FEW[2:], "--no-cache"]) == 0
    assert counts == {"pictures": 1, "prompts": 2}


def test_strengths_of_a_lora_vary_on_one_model(picture: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = ["--sweep", "lora=,blueprint:0.5,blueprint", "--strength", "0.5", "--seed", "1"]
    assert run(["run", "a.png", *words, *FEW, "--json"]) == 0
    told = [event["event"] for event in events(capfd.readouterr().out)]
    assert (told.count("load"), told.count("switch"), told.count("made")) == (1, 2, 3)
    facts = facts_of(Path("a.sweep.png"))
    assert len({one["sha256"] for one in facts["pictures"]}) == 3
    assert facts["axes"][0]["values"][0] == "none"


def test_the_sheet_is_marked_as_made_with_a_model_unless_it_shall_say_nothing(picture: Path) -> None:
    words = ["run", "a.png", "--sweep", "seed=1,2", "--strength", "0.25", *FEW]
    assert run([*words, "-o", "said.png"]) == 0
    assert run([*words, "-o", "silent.png", "--no-metadata"]) == 0
    said, silent = (Path(name).read_bytes() for name in ("said.png", "silent.png"))
    assert (b"compositeWithTrainedAlgorithmicMedia" in said, b"sdedit" in said) == (True, True)
    assert (b"compositeWithTrainedAlgorithmicMedia" in silent, b"sdedit" in silent) == (False, False)


def test_a_seed_that_nobody_names_is_one_for_all(picture: Path) -> None:
    assert run(["run", "a.png", "--sweep", "strength=0.25,0.5", "--sweep-dir", "one", *FEW]) == 0
    seeds = {edit_from([find(path).layer]).seed for path in map(str, Path("one").iterdir())}
    assert len(seeds) == 1


def test_cells_that_fail_are_marked_and_the_others_made(picture: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = ["--sweep", "strength=0.1,0.5", "--seed", "1", *FEW]
    assert run(["run", "a.png", *words]) == 4
    assert "strength 0.1" in capfd.readouterr().err
    assert [one.get("failed", False) for one in facts_of(Path("a.sweep.png"))["pictures"]] == [True, False]
    assert run(["run", "a.png", "--sweep", "model=no/such,nor/this", "-o", "b.png", *FEW]) == 5
    assert run(["run", "nothing.png", "--sweep", "seed=1,2", *FEW]) == 3
    assert not Path("b.png").exists()


def test_each_input_gets_a_sheet_and_one_that_is_no_picture_fails_alone(picture: Path) -> None:
    photo(Path("b.png"), (48, 64))
    Path("c.png").write_text("no picture")
    words = ["--sweep", "seed=1,2", "--strength", "0.25", "-o", "out/", *FEW]
    assert run(["run", "a.png", "b.png", "c.png", *words]) == 4
    assert sorted(path.name for path in Path("out").iterdir()) == ["a.sweep.png", "b.sweep.png"]
    assert run(["run", "*.png", "--sweep", "seed=1,2", "--strength", "0.25", "--dry-run", *FEW]) == 4
    assert not Path("a.sweep.png").exists()


def test_presets_vary_below_what_the_command_line_says(picture: Path) -> None:
    Path("low.toml").write_text("strength = 0.25\nprompt = 'a pig'\n")
    Path("high.toml").write_text("strength = 0.5\nprompt = 'a bus'\n")
    assert run(["run", "a.png", "--sweep", "preset=./low.toml,./high.toml", "--sweep-dir", "one", *FEW]) == 0
    edits = [edit_from([find(str(path)).layer]) for path in sorted(Path("one").iterdir())]
    assert sorted((edit.strength, edit.prompt) for edit in edits) == [(0.25, "a face"), (0.5, "a face")]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--sweep-dir", "x"], "give --sweep"),
        (["--sweep-page", "x.html"], "give --sweep"),
        (["--sweep", "seed=1", "-o", "-"], "a sweep writes a sheet"),
        (["--sweep", "seed=1", "-o", "a.jpg"], "is a PNG"),
        (["--sweep", "seed=1", "--sweep-page", "x.txt"], ".html"),
        (["--sweep", "seed=1", "--seed", "2"], "leave it to one of them"),
        (["--sweep", "sampler=Euler,Eular"], "unknown sampler 'Eular'"),
        (["--sweep-realism", "x"], "give --sweep"),
        (["--sweep-limit", "5"], "give --sweep"),
        (["--sweep", "seed=1,2", "--sweep-realism", "."], "where the strength varies"),
        (["--sweep", "seed=1", "--count", "2"], "vary --sweep seed="),
        (["--sweep", "seed=1", "--save-every", "2"], "single pictures"),
        (["--sweep", "seed=1", "--format", "jpeg"], "--sweep-dir"),
        (["--sweep", "seed=" + ",".join(map(str, range(1001)))], "1,001 combinations"),
    ],
)
def test_what_does_not_go_together_is_refused(
    picture: Path, words: list[str], said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(["run", "a.png", *words, *FEW]) == 2
    assert said in one_line(capfd.readouterr().err)
    assert [path.name for path in Path().iterdir()] == ["a.png"]


@pytest.mark.parametrize(
    ("words", "flag"),
    [
        (["-o", "a.png"], "-o"),
        (["-o", "link.png"], "-o"),
        (["-o", "../{here}/A.png"], "-o"),
        (["-o", "{{stem}}.png"], "-o"),
        (["--sweep-page", "link.html"], "--sweep-page"),
    ],
)
def test_no_sheet_or_page_takes_the_place_of_an_input(
    picture: Path, words: list[str], flag: str, capfd: pytest.CaptureFixture[str]
) -> None:
    before = picture.read_bytes()
    for name in ("link.png", "link.html"):
        Path(name).symlink_to("a.png")
    given = [word.format(here=Path.cwd().name) for word in words]
    assert run(["run", "a.png", "--sweep", "eta=0,1", "--on-exists", "overwrite", *given, *FEW]) == 2
    said = one_line(capfd.readouterr().err)
    assert said.startswith(f"sdedit: {flag}: ")
    assert "is one of the inputs" in said
    assert picture.read_bytes() == before
    assert run(["run", "a.png", "--sweep", "eta=0,1", "--on-exists", "suffix", "-o", "a.png", "--dry-run", *FEW]) == 0


def test_no_single_picture_takes_the_place_of_an_input(picture: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = ["--sweep", "eta=0,1", "--sweep-dir", ".", *FEW]
    assert run(["run", "a.png", *words]) == 0
    (made,) = sorted(path for path in Path().glob("a-*.png") if path.stem.endswith("1"))
    before = made.read_bytes()
    capfd.readouterr()
    assert run(["run", "a.png", made.name, *words, "--on-exists", "overwrite"]) == 2
    assert "--sweep-dir: " in (said := one_line(capfd.readouterr().err))
    assert f"{made.name} is one of the inputs" in said
    assert made.read_bytes() == before
    assert run(["run", "a.png", made.name, *words, "--on-exists", "suffix", "--dry-run"]) == 0


def test_the_page_needs_nothing_else_and_its_commands_make_the_pictures(picture: Path) -> None:
    prompt = "a face with <b>\"quotes\"</b> & 'more'"
    words = ["--sweep", "strength=0.25,0.5,0.1", "--sweep-page", "p.html", "--sweep-dir", "one", "-p", prompt, *FEW[2:]]
    assert run(["run", "a.png", *words, "--seed", "5"]) == 4
    page = Path("p.html").read_text(encoding="utf-8")
    assert prompt not in page
    assert set(re.findall(r"(?:src|href)=\W?(.{5})", page.partition("<script>")[0])) == {"data:"}
    assert page.count("class=failed") == 1
    commands = list(_commands(page))
    assert len(commands) == 2
    for number, command in enumerate(commands):
        assert command[:3] == ["sdedit", "run", "a.png"]
        assert run([*command[1:], "-q", "-o", f"{number}.png"]) == 0
    single = sorted(path.name for path in Path("one").iterdir())
    for number, name in enumerate(single):
        said = find(f"one/{name}").layer.values
        assert find(f"{number}.png").layer.values == said
    (first, *_) = re.findall(r'src="data:image/webp;base64,([^"]+)"', page)
    assert page.count("class=plot") == 1
    assert base64.b64decode(first).startswith(b"RIFF")


def _commands(page: str) -> Iterator[list[str]]:
    for text in re.findall(r'data-command="([^"]*)"', page):
        yield shlex.split(unescape(text))


def test_a_sweep_may_be_watched_and_is_the_same(picture: Path) -> None:
    words = ["run", "a.png", "--sweep", "seed=1,2", *FEW]
    assert run([*words, "-o", "plain.png"]) == 0
    assert run([*words, "--preview", "-o", "watched.png"]) == 0
    assert Path("plain.png").read_bytes() == Path("watched.png").read_bytes()


def test_the_distance_in_features_is_to_real_pictures_or_to_the_input(
    picture: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Pixels do not depend on it, and a file in the folder that is no picture is left out in words."""
    words = ["run", "a.png", "--sweep", "strength=0.25,0.5", "--seed", "3", *FEW]
    assert run([*words, "-o", "own.png"]) == 0
    Path("real").mkdir()
    photo(Path("real/one.png"))
    photo(Path("real/two.png"), (48, 64))
    Path("real/three.png").write_text("no picture")
    assert run([*words[:-1], "-o", "real.png", "--sweep-realism", "real", "--sweep-page", "p.html"]) == 0
    assert "three.png" in capfd.readouterr().err
    own, real = facts_of(Path("own.png")), facts_of(Path("real.png"))
    assert (own["compared_with"], real["compared_with"]) == ("the input (no real pictures)", "2 real pictures")
    assert all(type(one["features"]) is float for facts in (own, real) for one in facts["pictures"])
    assert [one["sha256"] for one in own["pictures"]] == [one["sha256"] for one in real["pictures"]]
    assert ("features" in own["input"], "features" in real["input"]) == (False, True)
    assert "to 2 real pictures" in Path("p.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("real", ["no-such", "no-such/*.png", "texts"])
def test_real_pictures_that_are_not_there_are_told_before_anything_is_made(
    picture: Path, real: str, capfd: pytest.CaptureFixture[str]
) -> None:
    Path("texts").mkdir()
    Path("texts/one.png").write_text("no picture")
    assert run(["run", "a.png", "--sweep", "strength=0.25,0.5", "--sweep-realism", real, *FEW]) == 3
    told = capfd.readouterr().err
    assert told.count("--sweep-realism: ") == told.count(real.partition("/")[0]) == 1
    assert "--sweep-realism: " in one_line(told)
    assert not Path("a.sweep.png").exists()


def test_a_folder_of_real_pictures_that_cannot_be_read_is_told(
    picture: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    Path("real/sub").mkdir(parents=True)
    monkeypatch.setattr(os, "scandir", Unlisted(Path("real/sub"), OSError(5, "Input/output error")))
    assert run(["run", "a.png", "--sweep", "strength=0.25,0.5", "--sweep-realism", "real", *FEW]) == 3
    assert "--sweep-realism: real/sub: the folder cannot be read" in one_line(capfd.readouterr().err)


def test_a_model_without_such_features_leaves_the_plot_by_strength(
    picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sdedit_cli.cli.worker import EditorWorker

    words = ["run", "a.png", "--sweep", "strength=0.25,0.5", "--seed", "3", *FEW]
    monkeypatch.setattr(EditorWorker, "unlikeness", lambda self, made, real, side: [None for _ in made])
    assert run(words) == 0
    assert all("features" not in one for one in facts_of(Path("a.sweep.png"))["pictures"])
