"""`sdedit run` from end to end with the built-in model."""

from __future__ import annotations

import io
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers.cli import BUILT_IN, QUICK, events, leftovers, one_line, photo, sdedit
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo

from sdedit_cli import __version__
from sdedit_cli.cli.main import run
from sdedit_cli.disk.hashes import model_hash
from sdedit_cli.options import edit_from
from sdedit_cli.pictures.carriers import find, texts
from sdedit_cli.pictures.codec import open_picture

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def test_a_picture_is_edited_beside_the_input(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    photo(folder / "a.png", (70, 45))
    assert run(["run", "a.png", "-p", "3d emoji of a face", *QUICK]) == 0
    out, err = capfd.readouterr()
    assert out == ""
    assert "built-in" in err
    assert "seed 1, 1 of 2 steps (strength 0.5)" in err
    assert re.search(r"a\.png -> a\.edited\.png \(seed 1, .* s\)", err)
    with Image.open("a.edited.png") as image, Image.open("a.png") as before:
        assert (image.size, image.mode) == ((70, 45), "RGB")
        assert np.any(np.asarray(image) != np.asarray(before))
    assert not leftovers(folder)


def test_the_picture_says_how_it_was_made_and_where_nothing_is(folder: Path) -> None:
    photo(folder / "a.png")
    assert run(["run", str(folder / "a.png"), "-p", "a face", "-q", *QUICK]) == 0
    found = find("a.edited.png")
    edit = edit_from([found.layer])
    assert (edit.prompt, edit.seed, edit.steps, edit.strength, edit.dtype) == ("a face", 1, 2, 0.5, "fp32")
    assert (found.model.name, found.model.sha256) == ("built-in", model_hash(BUILT_IN))
    held = texts(open_picture(Path("a.edited.png").read_bytes(), "a.edited.png", 1))
    assert held["parameters"].endswith(f"Version: sdedit {__version__}")
    assert "Sampler: DDIM" in held["parameters"]
    assert str(folder) not in "".join(held.values())


def test_equal_runs_give_equal_bytes_and_like_replays_one(folder: Path) -> None:
    photo(folder / "a.png")
    assert run(["run", "a.png", "-p", "a face", "-o", "x.png", "-q", *QUICK]) == 0
    assert run(["run", "a.png", "-p", "a face", "-o", "y.png", "-q", *QUICK]) == 0
    assert run(["run", "a.png", "--like", "x.png", "-o", "z.png", "-q", "--device", "cpu"]) == 0
    first = Path("x.png").read_bytes()
    assert Path("y.png").read_bytes() == first
    assert Path("z.png").read_bytes() == first


@pytest.mark.parametrize("format", ["jpeg", "webp"])
def test_other_formats_replay_too(folder: Path, format: str) -> None:
    photo(folder / "a.png")
    assert run(["run", "a.png", "--format", format, "-o", "o/", "-q", *QUICK]) == 0
    (made,) = (folder / "o").iterdir()
    with Image.open(made) as image:
        assert image.format == format.upper()
    assert find(made).exact


def test_an_undrawn_seed_is_drawn_told_and_saved(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    photo(folder / "a.png")
    quick = [word for word in QUICK if word not in ("--seed", "1")]
    assert run(["run", "a.png", *quick]) == 0
    told = re.search(r"seed (\d+),", capfd.readouterr().err)
    assert told is not None
    assert find("a.edited.png").layer.values["seed"] == int(told[1])


def test_count_takes_seeds_that_follow_each_other(folder: Path) -> None:
    photo(folder / "a.png")
    assert run(["run", "a.png", "--count", "2", "-q", *QUICK]) == 0
    assert run(["run", "a.png", "-o", "two.png", "-q", *QUICK, "--seed", "2"]) == 0
    seeds = [find(f"a.edited-{n}.png").layer.values["seed"] for n in (1, 2)]
    assert seeds == [1, 2]
    assert Path("a.edited-2.png").read_bytes() == Path("two.png").read_bytes()
    assert Path("a.edited-1.png").read_bytes() != Path("two.png").read_bytes()


def test_transparency_profile_and_orientation_go_through(folder: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    photo(folder / "a.png", (50, 34), "RGBA", exif=exif.tobytes(), icc_profile=SRGB)
    with Image.open("a.png") as image:
        image.putalpha(image.getchannel("R"))
        image.save("a.png", exif=exif.tobytes(), icc_profile=SRGB)
    assert run(["run", "a.png", "-q", *QUICK]) == 0
    with Image.open("a.edited.png") as out, Image.open("a.png") as before:
        assert out.size == (34, 50)
        assert out.info["icc_profile"] == SRGB
        turned = before.transpose(Image.Transpose.ROTATE_270)
        assert np.array_equal(np.asarray(out.getchannel("A")), np.asarray(turned.getchannel("A")))
        assert 0x0112 not in out.getexif()


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (65, 64)])
def test_any_size_comes_back(folder: Path, size: tuple[int, int]) -> None:
    photo(folder / "a.png", size)
    assert run(["run", "a.png", "-q", *QUICK]) == 0
    with Image.open("a.edited.png") as out:
        assert out.size == size


def test_events_tell_the_whole_story(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    photo(folder / "a.png")
    photo(folder / "b.png")
    (folder / "b.edited.png").touch()
    assert run(["run", "a.png", "b.png", "--json", "--on-exists", "skip", *QUICK]) == 0
    told = events(capfd.readouterr().out)
    assert [event["event"] for event in told] == ["start", "skipped", "load", "step", "saved", "end"]
    assert {event["schema"] for event in told} == {"sdedit.event/1"}
    start, _, load, step, saved, end = told
    assert (start["inputs"], start["edit"]["seed"], start["steps_run"], start["steps_total"]) == (2, 1, 1, 2)
    assert (load["model"], load["device"], load["dtype"]) == ("built-in", "cpu", "fp32")
    assert (step["input"], step["step"], step["steps"], step["seed"]) == ("a.png", 1, 1, 1)
    assert (saved["output"], saved["width"], saved["height"], saved["format"]) == ("a.edited.png", 64, 48, "png")
    assert end == {**end, "ok": True, "saved": 1, "skipped": 1, "failed": 0, "exit_code": 0}


def test_previews_of_steps(folder: Path) -> None:
    photo(folder / "a.png")
    words = [
        "run",
        "a.png",
        "--steps",
        "6",
        "--save-every",
        "2",
        "--steps-dir",
        "s",
        "-q",
        "--seed",
        "4",
        "--dtype",
        "fp32",
    ]
    assert run([*words, "--strength", "0.9"]) == 0
    assert sorted(path.name for path in (folder / "s").iterdir()) == ["a-4-step-002.png", "a-4-step-004.png"]
    with Image.open("s/a-4-step-002.png") as image:
        assert image.size == (64, 48)
    assert run([*words, "--strength", "0.9", "-o", "b.png"]) == 3  # never over the pictures of an earlier run


def test_a_dry_run_writes_nothing_and_says_all(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    photo(folder / "a.png")
    photo(folder / "b.png")
    assert run(["run", "?.png", "-o", "o/", "--dry-run", "--seed", "9"]) == 0
    err = capfd.readouterr().err
    assert "seed 9, 18 of 25 steps" in err
    assert "would edit b.png (64 x 48) -> o/b.png (seed 9)" in err
    assert sorted(path.name for path in folder.iterdir()) == ["a.png", "b.png"]


def test_failures_of_some_leave_the_others(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    photo(folder / "a.png")
    (folder / "b.png").write_text("no picture")
    assert run(["run", "a.png", "b.png", "none.png", "--json", *QUICK]) == 4
    out, err = capfd.readouterr()
    assert "b.png: is a text file" in err
    assert "none.png: no such file" in err
    assert "2 of 3 inputs failed" in one_line(err)
    assert (folder / "a.edited.png").exists()
    end = events(out)[-1]
    assert (end["event"], end["ok"], end["saved"], end["failed"], end["exit_code"]) == ("end", False, 1, 2, 4)


def test_failures_of_all_are_told_apart(folder: Path) -> None:
    assert run(["run", "a.png", "b.png", *QUICK]) == 5


def test_a_model_is_named_by_path_or_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photo(folder / "a.png")
    shutil.copytree(BUILT_IN, folder / "models" / "mine")
    monkeypatch.setenv("SDEDIT_MODELS", str(folder / "models"))
    for out, name in (("x.png", "models/mine"), ("y.png", "mine")):
        assert run(["run", "a.png", "-m", name, "-o", out, "-q", *QUICK]) == 0
    assert Path("x.png").read_bytes() == Path("y.png").read_bytes()
    assert find("x.png").model.name == "mine"
    assert run(["run", "a.png", "--like", "x.png", "-o", "z.png", "-q", "--device", "cpu"]) == 0
    assert Path("z.png").read_bytes() == Path("x.png").read_bytes()


def test_a_replay_on_another_model_warns(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    photo(folder / "a.png")
    shutil.copytree(BUILT_IN, folder / "other")
    config = folder / "other" / "scheduler" / "scheduler_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "note": 1}))
    assert run(["run", "a.png", "-q", *QUICK]) == 0
    assert run(["run", "a.png", "--like", "a.edited.png", "-m", "other", "-o", "b.png", "--device", "cpu"]) == 0
    assert "was made with another model than this one" in capfd.readouterr().err


def test_pictures_go_through_pipes(folder: Path) -> None:
    data = photo(folder / "a.png").read_bytes()
    done = sdedit("run", "-", "-o", "-", *QUICK, cwd=folder, data=data)
    assert done.returncode == 0
    with Image.open(io.BytesIO(done.stdout)) as image:
        image.load()
        assert (image.format, image.size) == ("PNG", (64, 48))
    assert b"stdin -> stdout" in done.stderr
    assert sdedit("run", "-", "-o", "x.png", *QUICK, cwd=folder, data=data).returncode == 0
    assert (folder / "x.png").read_bytes() == done.stdout


def test_a_prompt_over_the_models_length_is_told_with_what_was_cut(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    photo(folder / "a.png")
    assert run(["run", "a.png", "-p", "apple " * 100 + "unicorn", "--json", *QUICK]) == 0
    out, err = capfd.readouterr()
    (warning,) = (event for event in events(out) if event["event"] == "warning")
    assert warning["message"].endswith("unicorn'")
    assert warning["message"] in err


def test_a_web_uis_picture_is_replayed_as_far_as_possible(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    info = PngInfo()
    info.add_text(
        "parameters",
        "a face\nSteps: 4, Sampler: Euler, Schedule type: SGM Uniform, CFG scale: 3, Seed: 5, Denoising strength: 0.5",
    )
    photo(folder / "theirs.png", pnginfo=info)
    photo(folder / "a.png")
    assert run(["run", "a.png", "--like", "theirs.png", "--device", "cpu", "--dtype", "fp32"]) == 0
    assert "theirs.png: ignored is Schedule type: SGM Uniform" in capfd.readouterr().err
    edit = edit_from([find("a.edited.png").layer])
    assert (edit.prompt, edit.steps, edit.sampler, edit.cfg_scale, edit.seed, edit.strength) == (
        "a face",
        4,
        "Euler",
        3,
        5,
        0.5,
    )
    held = texts(open_picture(Path("a.edited.png").read_bytes(), "a.edited.png", 1))
    assert "Sampler: Euler," in held["parameters"]


def test_another_autoencoder_is_recorded_and_asked_for(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    photo(folder / "a.png")
    shutil.copytree(BUILT_IN / "vae", folder / "theirs")
    assert run(["run", "a.png", "--vae", "theirs", "-q", *QUICK]) == 0
    found = find("a.edited.png")
    assert (found.vae.name, len(found.vae.sha256)) == ("theirs", 64)
    assert run(["run", "a.png", "--like", "a.edited.png", "-o", "b.png"]) == 3
    assert "was made with the autoencoder 'theirs'; say where it is with --vae" in capfd.readouterr().err
    assert run(["run", "a.png", "--like", "a.edited.png", "-o", "b.png", "--vae", "theirs", "--device", "cpu"]) == 0
    assert "another vae" not in capfd.readouterr().err
    assert Path("b.png").read_bytes() == Path("a.edited.png").read_bytes()
