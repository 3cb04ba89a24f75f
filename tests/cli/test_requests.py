"""What a command line asks for: inputs that were meant, sizes, files beside the pictures, and a dry run's words."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers.cli import QUICK, environment, events, photo, sdedit, start
from helpers.pipelines import write_checkpoint
from PIL import Image

from sdedit_cli.cli.inputs import sources_of
from sdedit_cli.cli.main import run
from sdedit_cli.cli.render import Reporter
from sdedit_cli.errors import UsageError
from sdedit_cli.options import Edit
from sdedit_cli.pictures.carriers import find
from sdedit_cli.waiting import settle


def names(folder: Path, *files: str) -> None:
    for name in files:
        (folder / name).touch()


def chosen(*words: str, output: str | None = None) -> list[str]:
    return sources_of(words, "x", output, Reporter())


def test_a_pattern_leaves_out_what_earlier_runs_made(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    names(folder, "a.png", "a.edited.png", "a.edited-2.png", "b.edited.jpg", "c.jpg")
    assert chosen("*.*") == ["a.png", "c.jpg"]
    assert "a.edited-2.png, a.edited.png, b.edited.jpg;" in capfd.readouterr().err
    assert chosen("*.edited.png") == chosen("a.edited.png") == ["a.edited.png"]
    assert not capfd.readouterr().err


def test_so_does_a_list_that_a_shell_expanded(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    names(folder, "a.png", "a.edited.png", "b.edited.png")
    assert chosen("a.edited.png", "a.png", "b.edited.png") == ["a.png", "b.edited.png"]
    assert "left out are results of earlier runs: a.edited.png;" in capfd.readouterr().err
    assert chosen("a.edited.png", "a.png", output="out/") == ["a.edited.png", "a.png"]
    assert not capfd.readouterr().err


def test_a_pattern_of_results_alone_is_refused(folder: Path) -> None:
    names(folder, "a.edited.png")
    with pytest.raises(UsageError, match="results of earlier runs"):
        chosen("*.png")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["a red apple"], "did you mean -p 'a red apple'?"),
        (["a.png", "a red apple"], "did you mean -p 'a red apple'?"),
        (["apple"], "did you mean -p 'apple'?"),
        (["a.png", "-p", "a", "red", "apple"], "did you mean -p 'a red', in quotes?"),
    ],
)
def test_a_prompt_among_the_inputs_is_asked_about(
    folder: Path, words: list[str], said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    photo(folder / "a.png")
    assert run(["run", *words]) == 2
    assert said in capfd.readouterr().err


def test_a_file_without_an_ending_is_an_input(folder: Path) -> None:
    photo(folder / "my picture.png").rename(folder / "my picture")
    assert run(["run", "my picture", "--dry-run"]) == 0


def test_a_missing_prompt_is_said(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    photo(folder / "a.png")
    for words, expected in ((["--dry-run"], True), (["--dry-run", "-p", "x"], False)):
        assert run(["run", "a.png", *words]) == 0
        assert ("no prompt (-p)" in capfd.readouterr().err) is expected


def test_a_dry_run_names_no_seed_that_a_run_would_not_use(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    photo(folder / "a.png")
    words = ["run", "a.png", "--dry-run", "-p", "x", "-o", "o/{stem}-{seed:05}.png", "--count", "2", "--json"]
    assert run(words) == 0
    out, err = capfd.readouterr()
    start, *plans, _ = [event for event in events(out) if event["event"] != "warning"]
    assert "seed" not in start["edit"]
    assert [plan.get("seed") for plan in plans] == [None, None]
    assert [plan["output"] for plan in plans] == [str(Path("o/a-{seed}.png")), str(Path("o/a-{seed+1}.png"))]
    assert "a new seed, 18 of 25 steps" in err
    assert run([*words, "--seed", "7"]) == 0
    given = [event["seed"] for event in events(capfd.readouterr().out) if event["event"] == "plan"]
    assert given == [7, 8]


def test_what_is_skipped_bears_no_invented_seed(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    photo(folder / "a.png")
    names(folder, "a.edited.png")
    for words, seed in (([], None), (["--seed", "3"], 3)):
        assert run(["run", "a.png", "--on-exists", "skip", "--json", *words]) == 0
        (skipped,) = (event for event in events(capfd.readouterr().out) if event["event"] == "skipped")
        assert skipped.get("seed") == seed


@pytest.mark.parametrize(("words", "sampler"), [([], "DDIM (the model's own)"), (["--sampler", "euler a"], "Euler a")])
def test_a_dry_run_tells_people_model_sampler_and_prompt(
    folder: Path, words: list[str], sampler: str, capfd: pytest.CaptureFixture[str]
) -> None:
    photo(folder / "a.png")
    assert run(["run", "a.png", "--dry-run", "-p", "a cat", "-n", "fog", *words]) == 0
    lines = capfd.readouterr().err.splitlines()
    assert lines[:4] == ["model: built-in", f"sampler: {sampler}", "prompt: a cat", "negative prompt: fog"]


def test_a_dry_run_refuses_a_variant_that_the_built_in_model_lacks(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    photo(folder / "a.png")
    for more in (["--dry-run"], []):
        assert run(["run", "a.png", "-p", "x", "--variant", "fp16", *more]) == 3
        assert "no component has weights of the variant 'fp16'" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("words", "size"),
    [
        (["--max-side", "32"], (32, 24)),
        (["--max-side", "640"], (64, 48)),
        (["--size", "40x56"], (40, 56)),
        (["--size", "1X1"], (1, 1)),
        (["--size", "40x56", "--resize", "fit"], (40, 30)),
        (["--size", "40x56", "--resize", "pad"], (40, 56)),
        (["--size", "70x40", "--resize", "none"], (70, 40)),
        (["--max-megapixels", "0.001"], (36, 27)),
        (["--upscale", "2", "--tile", "64"], (128, 96)),
        (["--seamless", "xy"], (64, 48)),
    ],
)
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_a_picture_is_worked_on_and_written_in_the_size_asked_for(
    folder: Path, words: list[str], size: tuple[int, int], mode: str, capfd: pytest.CaptureFixture[str]
) -> None:
    photo(folder / "a.png", (64, 48)).rename(folder / "b.png")
    with Image.open("b.png") as image:
        image.convert(mode).save("a.png")
    steps = ["--save-every", "1", "--steps", "3", "--strength", "0.7", "--seed", "1", "--dtype", "fp32"]
    assert run(["run", "a.png", "--dry-run", "--json", *words]) == 0
    told = events(capfd.readouterr().out)
    (plan,) = (event for event in told if event["event"] == "plan")
    assert (plan["width"], plan["height"]) == size
    assert run(["run", "a.png", *words, *steps]) == 0
    with Image.open("a.edited.png") as image, Image.open("a.edited.steps/a-1-step-001.png") as step:
        assert (image.size, image.mode, step.size) == (size, mode, size)
    # The record replays the size.
    assert run(["run", "a.png", "--like", "a.edited.png", "-o", "again.png", "--dtype", "fp32"]) == 0
    assert (folder / "again.png").read_bytes() == (folder / "a.edited.png").read_bytes()


def test_size_and_max_side_take_each_other_back(folder: Path) -> None:
    with pytest.raises(UsageError, match="exclude each other"):
        Edit(size="64x64", max_side=3)
    photo(folder / "a.png")
    (folder / "p.toml").write_text('size = "20x20"\n')
    assert run(["run", "a.png", "--preset", "p.toml", "--max-side", "30", "--dry-run"]) == 0
    assert run(["run", "a.png", "--size", "20x20", "--max-side", "30", "--dry-run"]) == 2


@pytest.mark.parametrize("size", ["64", "0x4", "64x", "-1x4", "64x64x64", "16385x1", "9" * 5000 + "x1", "１x２"])
def test_what_is_no_size_is_refused(folder: Path, size: str, capfd: pytest.CaptureFixture[str]) -> None:
    photo(folder / "a.png")
    assert run(["run", "a.png", f"--size={size}", "--dry-run"]) == 2
    assert "expected a size such as 640x480" in " ".join(capfd.readouterr().err.split())


def test_the_steps_of_several_pictures_share_a_folder_beside_them(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in ("a.png", "b.png"):
        photo(folder / name)
    words = ["--save-every", "1", "--steps", "3", "--strength", "0.7", "--seed", "1", "--dtype", "fp32"]
    assert run(["run", "a.png", "b.png", "-o", "o/", *words]) == 0
    assert sorted(path.name for path in (folder / "o" / "steps").iterdir())[0] == "1-a-1-step-001.png"
    assert f"the pictures of the steps go to {Path('o/steps')}" in capfd.readouterr().err


def test_quality_is_for_formats_that_have_one(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    photo(folder / "a.png", (64, 64))
    sizes: dict[str, list[int]] = {}
    for ending in ("jpg", "webp"):
        for quality in ("5", "100"):
            name = f"{quality}.{ending}"
            assert run(["run", "a.png", *QUICK, "-o", name, "--quality", quality]) == 0
            sizes.setdefault(ending, []).append((folder / name).stat().st_size)
            assert find(folder / name).layer.values["quality"] == int(quality)
    assert all(low < high for low, high in sizes.values())
    assert run(["run", "a.png", "--quality", "5"]) == 2
    assert "--quality is for JPEG, WebP and AVIF" in capfd.readouterr().err
    (folder / "p.toml").write_text("quality = 5\n")
    assert run(["run", "a.png", "--preset", "p.toml", *QUICK]) == 0


def test_threads_are_set_told_and_saved(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    photo(folder / "a.png")
    before = torch.get_num_threads()
    try:
        assert run(["run", "a.png", *QUICK, "--threads", "2", "--json"]) == 0
        (load,) = (event for event in events(capfd.readouterr().out) if event["event"] == "load")
        assert load["threads"] == torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert find(folder / "a.edited.png").layer.values["threads"] == 2


def test_what_threads_do_while_they_wait_is_settled_unless_the_user_says_it(folder: Path) -> None:
    settled: dict[str, str] = {}
    settle(settled)
    for given, expected in (({}, settled), ({"OMP_WAIT_POLICY": "active"}, {"OMP_WAIT_POLICY": "active"})):
        done = sdedit("info", "--json", cwd=folder, more=given)
        said = json.loads(done.stdout)["threads_environment"]
        assert {name: value for name, value in said.items() if name != "OMP_NUM_THREADS"} == expected


def test_a_size_far_from_the_models_is_warned_of_in_both_runs(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    write_checkpoint(folder / "m", "sd15")
    photo(folder / "a.png", (120, 90))
    photo(folder / "b.png", (8, 8))
    words = ["run", "a.png", "b.png", "-m", "m", "-o", "o/", "--json", *QUICK]
    for more in (["--dry-run"], []):
        assert run([*words, *more]) == 0
        warned = [event for event in events(capfd.readouterr().out) if event["event"] == "warning"]
        assert [event["input"] for event in warned] == ["a.png", "b.png"]
        assert "--max-side" in warned[0]["message"]
        assert "--size" in warned[1]["message"]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits its own memory")
@pytest.mark.parametrize("more", [[], ["--vae-tiling"]], ids=["as it comes", "in tiles"])
def test_out_of_memory_names_the_size_and_what_to_try(folder: Path, more: list[str]) -> None:
    write_checkpoint(folder / "m", "sd15")
    photo(folder / "a.png", (32, 32))
    spied = (
        "import resource, sys; from sdedit_cli.cli.main import run; import torch;"
        "resource.setrlimit(resource.RLIMIT_AS, (6 * 2**30,) * 2); sys.exit(run(sys.argv[1:]))"
    )
    command = ["run", "a.png", "-m", "m", "-p", "x", "--size", "14000x14000", "--attention", "sliced", *QUICK, *more]
    done = subprocess.run(
        [sys.executable, "-c", spied, *command], cwd=folder, env=environment(), capture_output=True, timeout=300
    )
    said = done.stderr.decode().splitlines()[-1]
    assert done.returncode == 3, said
    assert said.startswith("sdedit: a.png: at 14000 x 14000 it needs more memory than there is; try --max-side 768")
    assert "--attention" not in said
    assert "--device" not in said, "it is edited on the CPU already"
    assert ("--low-memory" in said) == (not more), "on a CPU it is no more than tiles"


@pytest.mark.skipif(sys.platform == "win32", reason="a folder in use cannot be deleted there")
@pytest.mark.parametrize("words", [["run", "a.png"], ["info"], ["presets"], ["convert", "x", "y"]], ids=" ".join)
def test_a_deleted_working_folder_is_said(
    folder: Path, words: list[str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    gone = folder / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    try:
        assert run(words) == 3
    finally:
        monkeypatch.undo()
    assert "the working folder is gone" in capfd.readouterr().err


def test_a_reader_that_leaves_is_said(folder: Path) -> None:
    photo(folder / "a.png")
    running = start("run", "a.png", "--dry-run", "--json", cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert running.stdout is not None
    assert running.stderr is not None
    running.stdout.close()
    assert b"sdedit: stdout was closed by who read it" in running.stderr.read()
    assert running.wait() == 3
    running.stderr.close()
