"""`--like` beyond its settings, `--background`, and what `info` says of pictures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from helpers.cli import QUICK, events, one_line, photo, sdedit
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from sdedit_cli.cli.replay import without_idle
from sdedit_cli.errors import UsageError
from sdedit_cli.options import Edit, edit_from, environment
from sdedit_cli.pictures.carriers import find


def seeds(folder: Path, *arguments: str, more: dict[str, str] | None = None) -> list[int]:
    """The seeds that a run of these arguments would take."""
    done = sdedit("run", *arguments, "--dry-run", "--json", "-o", "out/", cwd=folder, more=more)
    assert done.returncode == 0, done.stderr
    return [event["seed"] for event in events(done.stdout) if event["event"] == "plan"]


def test_more_pictures_like_one_do_not_begin_with_itself(folder: Path) -> None:
    photo(folder / "in.png")
    photo(folder / "other.png", (48, 64))
    assert sdedit("run", "in.png", "-o", "x.png", "-p", "a pond", *QUICK, cwd=folder).returncode == 0
    again = ("--like", "x.png")
    assert seeds(folder, "in.png", *again, "--count", "3") == [2, 3, 4]
    # What would be another picture, or is asked for, stays with the seed.
    assert seeds(folder, "in.png", *again) == [1]
    assert seeds(folder, "in.png", *again, "--count", "2", "--seed", "1") == [1, 2]
    assert seeds(folder, "in.png", *again, "--count", "2", more={"SDEDIT_SEED": "1"}) == [1, 2]
    assert seeds(folder, "in.png", *again, "--count", "2", "--cfg-scale", "3") == [1, 2]
    assert seeds(folder, "other.png", *again, "--count", "2") == [1, 2]


def test_so_it_is_with_the_mask_that_it_was_made_with(folder: Path) -> None:
    photo(folder / "in.png")
    photo(folder / "sprite.png", mode="RGBA")
    mask = Image.new("L", (64, 48))
    mask.paste(255, (20, 10, 40, 30))
    for name, image in (("mask.png", mask), ("other.png", mask.transpose(Image.Transpose.ROTATE_180))):
        image.save(folder / name)
    made = ("-p", "a pond", *QUICK, "--mask")
    assert sdedit("run", "in.png", "-o", "x.png", *made, "mask.png", cwd=folder).returncode == 0
    assert sdedit("run", "sprite.png", "-o", "y.png", *made, "alpha", cwd=folder).returncode == 0
    again = ("--like", "x.png", "--count", "2")
    assert seeds(folder, "in.png", *again, "--mask", "mask.png") == [2, 3]
    assert seeds(folder, "in.png", *again, "--mask", "other.png") == [1, 2]
    assert seeds(folder, "in.png", *again) == [1, 2]
    assert seeds(folder, "sprite.png", "--like", "y.png", "--count", "2", "--mask", "alpha") == [2, 3]


def foreign(path: Path, line: str) -> None:
    info = PngInfo()
    info.add_text("parameters", f"a pond\n{line}")
    Image.new("RGB", (64, 48)).save(path, pnginfo=info)


def test_a_sampler_that_is_not_here_is_the_pictures_and_can_be_overridden(folder: Path) -> None:
    foreign(folder / "a.png", "Steps: 2, Sampler: Restart, Seed: 4, Denoising strength: 0.5")
    done = sdedit("run", "a.png", "--like", "a.png", "--dry-run", cwd=folder)
    assert done.returncode == 3
    assert "a.png: names an unknown sampler 'Restart'" in done.stderr.decode()
    assert "--sampler overrides it" in done.stderr.decode()
    assert seeds(folder, "a.png", "--like", "a.png", "--sampler", "euler") == [4]
    wrong = sdedit("run", "a.png", "--like", "a.png", "--sampler", "Restart", "--dry-run", cwd=folder)
    assert wrong.returncode == 2
    assert "a.png" not in one_line(wrong.stderr)


def test_an_eta_beside_a_sampler_that_takes_none_is_left_out_and_told(folder: Path) -> None:
    foreign(folder / "a.png", "Steps: 2, Sampler: Euler a, Seed: 4, Denoising strength: 0.5, Eta: 0.67")
    foreign(folder / "b.png", "Steps: 2, Sampler: DDIM, Seed: 4, Denoising strength: 0.5, Eta: 0.67")
    for name, idle in (("a.png", True), ("b.png", False)):
        done = sdedit("run", name, "--like", name, "--dry-run", cwd=folder)
        assert done.returncode == 0
        assert (f"{name}: ignored is eta: 0.67" in done.stderr.decode()) == idle
        assert ("--eta 0.67" in info(folder, name, "--as", "command")) == (not idle)


@pytest.mark.parametrize("sampler", ["Euler a", "DDIM", "LCM", "PLMS", "euler_a"])
@pytest.mark.parametrize("curve", ["Karras", "Exponential", "Beta"])
def test_a_curve_beside_a_sampler_that_takes_none_is_left_out_and_told(folder: Path, sampler: str, curve: str) -> None:
    foreign(folder / "a.png", f"Steps: 2, Sampler: {sampler}, Schedule type: {curve}, Seed: 4, Denoising strength: 0.5")
    found = without_idle(find(folder / "a.png"))
    assert found.ignored == (f"schedule: {curve.lower()}",)
    assert found.layer.values["sampler"] == sampler
    assert "schedule" not in found.layer.values


def test_a_run_takes_a_picture_with_such_a_curve_and_info_says_the_same_of_it(folder: Path) -> None:
    foreign(folder / "a.png", "Steps: 2, Sampler: Euler a, Schedule type: Karras, Seed: 4, Denoising strength: 0.5")
    foreign(folder / "b.png", "Steps: 2, Sampler: Euler, Schedule type: Karras, Seed: 4, Denoising strength: 0.5")
    done = sdedit("run", "a.png", "--like", "a.png", "-o", "x.png", "--device", "cpu", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "a.png: ignored is schedule: karras" in done.stderr.decode()
    a, b = (json.loads(info(folder, name, "--json")) for name in ("a.png", "b.png"))
    assert (a["left_out"], a["settings"].get("schedule")) == (["schedule: karras"], None)
    assert ("left_out" in b, b["settings"]["schedule"]) == (False, "karras")


def info(folder: Path, *arguments: str, more: dict[str, str] | None = None) -> str:
    done = sdedit("info", *arguments, cwd=folder, more=more)
    assert done.returncode == 0, done.stderr
    return done.stdout.decode()


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.webp"])
def test_info_tells_a_pictures_pixels(folder: Path, name: str) -> None:
    photo(folder / name, (40, 24))
    facts: dict[str, Any] = json.loads(info(folder, name, "--json"))
    assert (facts["width"], facts["height"], facts["mode"], facts["profile"]) == (40, 24, "RGB", "")
    assert "sha256" in facts
    assert not {"autov1", "autov2"} & set(facts)


def test_info_calls_settings_as_the_options_are_and_wraps_between_words(folder: Path) -> None:
    words = " ".join(f"word{n}" for n in range(60))
    foreign(folder / "a.png", "Steps: 2, Sampler: Euler, CFG scale: 4, Seed: 4")
    foreign(folder / "b.png", f"{words}\nSteps: 2, Sampler: Euler, CFG scale: 4, Seed: 4")
    assert json.loads(info(folder, "a.png", "--json"))["settings"]["cfg-scale"] == 4
    shown = info(folder, "b.png", more={"COLUMNS": "60"})
    assert "cfg-scale" in shown
    assert all(len(line) <= 60 for line in shown.splitlines() if "word" in line)
    assert set(words.split()[1:]) <= set(shown.split())


def test_info_names_the_files_that_took_part(folder: Path) -> None:
    looks = ("--lora", "blueprint:0.5", "--embedding", "emoji-gold")
    photo(folder / "in.png")
    sdedit("run", "in.png", "-p", "emoji-gold", *looks, *QUICK, "-o", "a.png", cwd=folder)
    facts = json.loads(info(folder, "a.png", "--json"))["ingredients"]
    assert [(one["kind"], one["name"], one.get("scale")) for one in facts] == [
        ("lora", "blueprint", 0.5),
        ("embedding", "emoji-gold", None),
    ]
    lines = [" ".join(line.split()) for line in info(folder, "a.png").splitlines()]
    assert "lora blueprint, strength 0.5" in lines
    assert "embedding emoji-gold" in lines


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_info_never_fails_for_a_character(folder: Path, encoding: str) -> None:
    foreign(folder / "灯 🍎.png", "Steps: 2, Sampler: Euler, Seed: 4")
    assert "灯" in info(folder, "灯 🍎.png", more={"PYTHONIOENCODING": "utf-8"})
    done = sdedit("info", "灯 🍎.png", cwd=folder, more={"PYTHONIOENCODING": encoding})
    assert done.returncode == 0


@pytest.mark.parametrize(
    ("text", "colour"),
    [
        ("black", "#000000"),
        ("#fa0", "#ffaa00"),
        ("#20242c", "#20242c"),
        ("rgb(1, 2, 3)", "#010203"),
        ("Red", "#ff0000"),
    ],
)
def test_a_background_is_read_as_css_writes_it(text: str, colour: str) -> None:
    assert Edit(background=text).background == colour
    assert edit_from([environment({"SDEDIT_BACKGROUND": text})]).background == colour


@pytest.mark.parametrize("text", ["", "reddish", "#12", "rgb(1)", 7, "x" * 9000])
def test_what_is_no_colour_is_refused(text: Any) -> None:
    with pytest.raises(UsageError, match=r"background is .*expected a colour such as"):
        Edit(background=text)
