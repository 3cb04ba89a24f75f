"""What is told of a whole list of jobs holds of all of them: the first one does not speak for the others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from helpers.cli import BUILT_IN, QUICK, events, photo
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from sdedit_cli.cli.main import run

BUNDLED = BUILT_IN.parent / "adapters"
Told = tuple[dict[str, Any], list[str]]


def told(capfd: pytest.CaptureFixture[str], *words: str) -> Told:
    """The event `start`, and the lines for people."""
    assert run([*words, "--json"]) == 0
    out, err = capfd.readouterr()
    return events(out)[0], err.splitlines()


def listed(folder: Path, *lines: str) -> str:
    for name in "ab":
        photo(folder / f"{name}.png", (16, 16))
    (folder / "jobs.csv").write_text("\n".join(lines))
    return "jobs.csv"


def test_a_list_tells_in_what_its_jobs_differ(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    jobs = listed(
        folder,
        "input,prompt,negative-prompt,seed,strength,steps",
        "a.png,a tree,,1,0.5,10",
        "b.png,a house,fog,9,0.7,10",
    )
    start, lines = told(capfd, "batch", jobs, "out", "--dry-run")
    assert {"prompt", "negative_prompt", "seed", "strength"}.isdisjoint(start["edit"])
    assert start["differing"] == {
        "negative_prompt": {"values": 2},
        "prompt": {"values": 2},
        "seed": {"values": 2, "from": 1, "to": 9},
        "strength": {"values": 2, "from": 0.5, "to": 0.7},
    }
    assert (start["edit"]["steps"], start["steps_total"], start["steps_run"]) == (10, 10, None)
    assert lines[2:4] == ["prompt: 2 different ones", "negative prompt: 2 different ones"]
    assert "2 seeds from 1 to 9, steps or strengths of their own for each picture" in lines


def test_a_list_tells_what_its_jobs_have_in_common(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Also where each row says it for itself."""
    jobs = listed(folder, "input,prompt,seed,strength", "a.png,a tree,7,0.4", "b.png,a tree,7,0.4")
    start, lines = told(capfd, "batch", jobs, "out", "--dry-run")
    assert "differing" not in start
    assert {name: start["edit"][name] for name in ("prompt", "seed", "strength")} == {
        "prompt": "a tree",
        "seed": 7,
        "strength": 0.4,
    }
    assert (start["model"], start["steps_run"], start["steps_total"]) == ("built-in", 10, 25)
    assert "prompt: a tree" in lines
    assert "seed 7, 10 of 25 steps (strength 0.4)" in lines


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["input,prompt", "a.png,a tree", "b.png,"], "no prompt (-p) for 1 of 2 pictures:"),
        (["input,prompt", "a.png,", "b.png,"], "no prompt (-p):"),
        (["input,model,sampler", "a.png,built-in,", "b.png,,euler"], "no model named (-m)"),
    ],
)
def test_what_some_jobs_lack_is_said_whichever_comes_first(
    folder: Path, capfd: pytest.CaptureFixture[str], lines: list[str], said: str
) -> None:
    jobs = listed(folder, *lines)
    for order in (lines, [lines[0], *reversed(lines[1:])]):
        Path(jobs).write_text("\n".join(order))
        assert len([line for line in told(capfd, "batch", jobs, "out", "--dry-run")[1] if line.startswith(said)]) == 1


def composed(line: str) -> bool:
    return "prompts are not composed here" in line


@pytest.mark.parametrize(
    ("prompt", "more", "is_told"),
    [
        ("a cat AND a dog", [], True),
        ("a cat :1.2\nAND (a dog:0.5) :0.7", [], True),
        ("(a cat)AND(a dog)", [], True),
        ("a cat and a dog, BRAND ANDY R-AND-B", [], False),
        ("a cat AND a dog", ["--no-weighting"], False),
        ("a cat", ["-n", "rain AND fog"], False),
    ],
)
def test_prompts_that_web_uis_would_compose_are_warned_of(
    folder: Path, capfd: pytest.CaptureFixture[str], prompt: str, more: list[str], is_told: bool
) -> None:
    listed(folder)
    for command in (["run", "a.png", "b.png"], ["batch", ".", "out"]):
        _, lines = told(capfd, *command, "-p", prompt, *more, "--dry-run")
        assert [line.partition(":")[0] for line in lines if composed(line)] == ["sdedit"] * is_told


def test_an_and_of_one_job_or_of_another_program_is_warned_of_too(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    jobs = listed(folder, "input,prompt", "a.png,a tree", "b.png,a tree AND a house")
    _, lines = told(capfd, "batch", jobs, "out", *QUICK)
    (line,) = filter(composed, lines)
    assert line.startswith("sdedit: warning: AND in the prompt for 1 of 2 pictures:")
    info = PngInfo()
    info.add_text("parameters", "a tree AND a house\nSteps: 4, Sampler: Euler, Seed: 1")
    Image.new("RGB", (16, 16)).save("like.png", pnginfo=info)
    _, lines = told(capfd, "run", "a.png", "--like", "like.png", "--dry-run")
    assert len(list(filter(composed, lines))) == 1
    assert run(["embed", "encode", "-p", "a tree AND a house", "-o", "kept.safetensors"]) == 0
    assert composed(capfd.readouterr().err)
    _, lines = told(capfd, "run", "a.png", "--prompt-embeds", "kept.safetensors", "--dry-run")
    assert not any(map(composed, lines))


def test_seeds_that_follow_each_other_and_those_of_a_sweep_are_told(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    listed(folder)
    for words, said, edit in (
        (["batch", ".", "out", "--seed-mode", "index", "--seed", "4"], "2 seeds from 4 to 5", None),
        (["run", "a.png", "--seed", "4", "--count", "3"], "3 seeds from 4 to 6", 4),
        (["run", "a.png", "--sweep", "seed=3,8"], "2 seeds from 3 to 8", None),
        (["run", "a.png", "--sweep", "strength=0.5,0.8", "--seed", "3"], "seed 3", 3),
    ):
        start, lines = told(capfd, *words, "-p", "x", "--dry-run")
        assert any(line.startswith(f"{said}, ") for line in lines), words
        assert start["edit"].get("seed") == edit, words
        assert start["inputs"] == (2 if words[0] == "batch" else 1), words
    assert start["differing"] == {"strength": {"values": 2, "from": 0.5, "to": 0.8}}


def test_lists_of_strengths_differ_from_the_strength_that_they_begin_with(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    jobs = listed(folder, "input,strength", "a.png,0.5", 'b.png,"0.5,0.3"')
    start, _ = told(capfd, "batch", jobs, "out", "-p", "x", "--dry-run")
    assert start["differing"] == {"strength": {"values": 2}}


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["run", "a.png", "-p", "x", "--embedding", "WORD", "--dry-run"], 0, "stands in no prompt"),
        (["batch", "jobs.csv", "out", "--prune", "--dry-run"], 4, "--prune: nothing is removed"),
        (
            ["run", "a.png", "-p", "x", "--sweep", "strength=0.5,1", "--sweep-realism", "real", "--dry-run"],
            0,
            "text.png: is a text file; expected a picture such as PNG, JPEG, WebP or TIFF; left out",
        ),
    ],
    ids=["word", "prune", "realism"],
)
def test_people_and_programs_are_warned_of_the_same(
    folder: Path, capfd: pytest.CaptureFixture[str], words: list[str], code: int, said: str
) -> None:
    listed(folder, "input,steps", "a.png,2", "b.png,0")
    (folder / "real").mkdir()
    photo(folder / "real" / "one.png", (16, 16))
    (folder / "real" / "text.png").write_text("no picture")
    word = str(BUNDLED / "embedding" / "emoji-gold.safetensors")
    assert run([word if one == "WORD" else one for one in words] + ["--json"]) == code
    out, err = capfd.readouterr()
    messages = [one["message"] for one in events(out) if one["event"] == "warning"]
    assert [said in message for message in messages].count(True) == 1
    assert said in err


@pytest.mark.parametrize("more", [[], ["--dry-run"], ["--fail-fast"]], ids=str)
def test_a_batch_begins_with_start_whatever_speaks_against_its_rows(
    folder: Path, capfd: pytest.CaptureFixture[str], more: list[str]
) -> None:
    jobs = listed(folder, "input,steps", "a.png,0", "b.png,2")
    assert run(["batch", jobs, "out", *QUICK[2:], "--strength", "1", "--json", *more]) == 4
    kinds = [one["event"] for one in events(capfd.readouterr().out)]
    assert (kinds[:2], kinds[-1]) == (["start", "failed"], "end")


def test_a_sweep_begins_with_start_whatever_speaks_against_its_cells_and_inputs(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    listed(folder)
    (folder / "broken.png").write_text("no picture")
    (folder / "b.sweep.png").touch()
    names, sweep = ["a.png", "b.png", "broken.png"], ["--sweep", "strength=0.01,0.5", "--on-exists", "skip"]
    assert run(["run", *names, "-p", "x", *QUICK[:2], *sweep, "--dry-run", "--json"]) == 4
    kinds = [one["event"] for one in events(capfd.readouterr().out)]
    assert (kinds[0], kinds[-1]) == ("start", "end")
    assert {kind: kinds.count(kind) for kind in ("start", "skipped", "failed", "plan")} == {
        "start": 1,
        "skipped": 1,
        "failed": 2,
        "plan": 1,
    }


@pytest.mark.parametrize("group", ["lora", "embed"])
def test_a_command_of_several_shows_them_where_none_is_named(group: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert run([group]) == 0
    alone = capfd.readouterr()
    assert run([group, "--help"]) == 0
    assert (alone.out, alone.err) == (capfd.readouterr().out, "")


def test_options_of_masks_want_one(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photo(folder / "in.png")
    assert run(["run", "in.png", "-p", "x", *QUICK, "--mask-blur", "4"]) == 2
    assert "--mask-blur says something of a mask" in capsys.readouterr().err
    assert run(["batch", "in.png", "out", "-p", "x", *QUICK, "--mask-blur", "3"]) == 2
    assert "--mask-blur says something of a mask" in capsys.readouterr().err
    rows = [
        {"input": "in.png", "output": f"{n}.png", "invert-mask": n > 0, "mask": mask}
        for n, mask in enumerate([None, None, "alpha"])
    ]
    Path("jobs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert run(["batch", "jobs.jsonl", "out", "-p", "x", *QUICK, "--dry-run"]) == 4
    words = " ".join(capsys.readouterr().err.split())
    assert "jobs.jsonl, line 2: invert-mask says something of a mask; give that too, as 'mask'" in words


def test_what_a_command_says_of_masks_is_for_the_rows_that_have_one(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    jobs = listed(folder, "input,mask", "a.png,m.png", "b.png,")
    photo(folder / "m.png", (16, 16))
    _, lines = told(capfd, "batch", jobs, "out", "-p", "x", "--mask-blur", "3", "--dry-run")
    assert any(line.startswith("no mask (--mask) for 1 of 2 pictures:") for line in lines)
