"""`--like` on the picture's own input gives its very bytes again, and says why before it runs where it may not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.cli import QUICK, photo
from helpers.pipelines import write_checkpoint
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from sdedit_cli.cli.main import run

CASES = {
    "a guided edit": ("-p", "a pond", "-n", 'fog, "rain"'),
    "noise on each step, on a curve": ("-p", "a pond", "--sampler", "DPM++ 2M SDE", "--schedule", "karras"),
    "noise from a tree": ("-p", "a pond", "--sampler", "DPM++ SDE", "--eta", "0"),
    "listed timesteps": ("-p", "a pond", "--timesteps", "900,500,200,100", "--sampler", "tcd", "--eta", "0.5"),
    "exact steps and no guidance": ("-p", "a pond", "--exact-steps", "--cfg-scale", "1"),
    "adapters": ("-p", "emoji-gold pond", "--lora", "blueprint:0.5", "--embedding", "emoji-gold"),
    "half precision in tiles": ("-p", "a pond", "--dtype", "bf16", "--vae-tiling"),
    "another size": ("-p", "a pond", "--size", "37x61"),
    "freeu and a skipped layer": ("-p", "a pond", "--freeu", "0.9,0.2,1.1,1.2", "--clip-skip", "1"),
}


@pytest.mark.parametrize(
    ("name", "ending"), [*((name, "png") for name in CASES), ("a guided edit", "jpg"), ("adapters", "webp")]
)
def test_the_same_input_gives_the_same_bytes(
    folder: Path, name: str, ending: str, capfd: pytest.CaptureFixture[str]
) -> None:
    photo(folder / "in.png", (51, 33), "RGBA" if ending == "png" else "RGB")
    quality = ("--quality", "71") if ending != "png" else ()
    basics = QUICK[2:] if "--timesteps" in CASES[name] else QUICK
    assert run(["run", "in.png", *basics, *CASES[name], *quality, "-o", f"x.{ending}"]) == 0
    capfd.readouterr()
    assert run(["run", "in.png", "--like", f"x.{ending}", "--device", "cpu", "-o", f"y.{ending}"]) == 0
    said = capfd.readouterr().err
    assert Path(f"y.{ending}").read_bytes() == Path(f"x.{ending}").read_bytes()
    assert "promised" not in said
    assert "expect another" not in said


def test_what_was_stripped_does_not_come_back(folder: Path) -> None:
    exif = Image.Exif()
    exif[271] = "a camera"
    photo(folder / "in.jpg", exif=exif)
    for name, more in (("plain", ()), ("x", ("--strip",))):
        assert run(["run", "in.jpg", "-p", "a pond", *QUICK, *more, "-o", f"{name}.jpg"]) == 0
    assert run(["run", "in.jpg", "--like", "x.jpg", "--device", "cpu", "-o", "y.jpg"]) == 0
    assert b"a camera" in Path("plain.jpg").read_bytes()
    assert b"a camera" not in Path("x.jpg").read_bytes()
    assert Path("y.jpg").read_bytes() == Path("x.jpg").read_bytes()


def test_each_of_several_pictures_is_made_again(folder: Path) -> None:
    photo(folder / "in.png")
    assert run(["run", "in.png", "-p", "a pond", *QUICK, "--count", "3", "-o", "x-{seed}.png"]) == 0
    for seed in (1, 2, 3):
        like = f"x-{seed}.png"
        assert run(["run", "in.png", "--like", like, "--device", "cpu", "-o", "y.png", "--on-exists", "overwrite"]) == 0
        assert Path("y.png").read_bytes() == Path(like).read_bytes()


def test_why_the_bytes_may_be_others_is_said_before_the_run(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    photo(folder / "in.png")
    photo(folder / "other.png", (48, 64))
    assert run(["run", "in.png", "-p", "a pond", *QUICK, "-o", "x.png"]) == 0
    with Image.open("x.png") as image:
        said = json.loads(image.info["sdedit"])
        assert set(said["made_on"]) == {"torch", "device", "threads", "numeric", "pillow"}
        said["made_on"] |= {"torch": "1.0", "threads": "77"}
        info = PngInfo()
        info.add_text("sdedit", json.dumps(said))
        image.save("old.png", pnginfo=info)
    capfd.readouterr()
    assert run(["run", "in.png", "--like", "old.png", "--device", "cpu", "-o", "y.png"]) == 0
    before, told, after = " ".join(capfd.readouterr().err.split()).partition("bytes cannot be promised: torch ")
    assert "old.png: the same" in before
    assert "(was 1.0); threads 1 (was 77)" in after
    assert "-> y.png" in after
    assert told
    assert "-> y.png" not in before
    assert run(["run", "other.png", "--like", "x.png", "--strength", "0.9", "--device", "cpu", "-o", "z.png"]) == 0
    said = " ".join(capfd.readouterr().err.split())
    assert "x.png was made with other settings, so expect another picture: strength 0.9 (was 0.5)" in said
    assert "x.png was made of another input than other.png" in said
    assert "promised" not in said


def test_a_row_that_the_model_cannot_make_ends_none_of_the_others(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """What is said of `--like` looks at the row's sampler before the edit does."""
    write_checkpoint(folder / "model")
    scheduler = folder / "model" / "scheduler" / "scheduler_config.json"
    scheduler.write_text(json.dumps(json.loads(scheduler.read_text()) | {"num_train_timesteps": 10}))
    for name in "abc":
        photo(folder / f"{name}.png")
    words = ["-m", "model", "-p", "a pond", *QUICK[2:]]
    assert run(["run", "a.png", *words, "--steps", "4", "-o", "like.png"]) == 0
    Path("jobs.csv").write_text("input,steps\na.png,4\nb.png,20\nc.png,4\n")
    capfd.readouterr()
    assert run(["batch", "jobs.csv", "out", "--like", "like.png", *words]) == 4
    assert "20 steps are more than the 10" in capfd.readouterr().err
    assert sorted(path.name for path in Path("out").glob("*.png")) == ["a.png", "c.png"]
