"""Image prompts on the command line: what they make, what is said before anything is loaded, and what is recorded."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.cli import QUICK, environment, photo
from helpers.ip_adapters import adapter, image_encoder, save_adapter
from helpers.pipelines import picture, write_checkpoint
from PIL import Image

from sdedit_cli import StableDiffusionImg2ImgPipeline
from sdedit_cli.cli.main import run


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, adapters with an image encoder beside them, and pictures."""
    place = tmp_path_factory.mktemp("place")
    theirs = write_checkpoint(place / "model", "sd15")
    for variant in ("base", "plus"):
        save_adapter(place / "ip" / f"{variant}.bin", adapter(variant, theirs.unet))
    save_adapter(place / "alone" / "base.safetensors", adapter("base", theirs.unet))
    image_encoder().save_pretrained(place / "ip" / "image_encoder")
    image_encoder(projection_dim=28).save_pretrained(place / "wrong")
    photo(place / "in.png", (32, 32))
    for k in range(2):
        picture(40, 48, seed=41 + k).save(place / f"look{k}.png")
    (place / "text.png").write_text("not a picture")
    return place


@pytest.fixture
def edit(place: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A command over the model; what it needs more is added."""
    monkeypatch.chdir(place)
    return ["run", "in.png", "-m", "model", "-p", "a cat", "-q", "--on-exists", "overwrite", *QUICK]


BASE, PLUS = ("--ip-adapter", "ip/base.bin"), ("--ip-adapter", "ip/plus.bin:0.5")
ONE, TWO = ("--ip-image", "look0.png"), ("--ip-image", "look1.png")


def test_pictures_are_those_of_the_library_and_record_what_made_them(edit: list[str], place: Path) -> None:
    """Also from a preset; strength 0 is the picture without them, byte for byte of its pixels."""

    def made(name: str, *options: str) -> Image.Image:
        assert run([*edit, "-o", name, *options]) == 0
        return Image.open(place / name)

    plain, none = made("plain.png"), made("none.png", "--ip-adapter", "ip/base.bin:0", *ONE)
    assert none.tobytes() == plain.tobytes()
    both = made("both.png", *BASE, *PLUS, *ONE, *TWO)
    several = made("several.png", *PLUS, *ONE, *TWO)
    unguided = made("unguided.png", *BASE, *ONE, "--cfg-scale", "1")
    pictures = (plain, both, several, unguided)
    assert len({one.tobytes() for one in pictures}) == len(pictures)
    pipe = StableDiffusionImg2ImgPipeline.from_pretrained("model")
    looks = [Image.open(f"look{k}.png") for k in range(2)]
    for found, files, scales, images in (
        (both, ["base.bin", "plus.bin"], [1.0, 0.5], looks),
        (several, ["plus.bin"], [0.5], [looks]),
    ):
        pipe.load_ip_adapter("ip", "", files)
        pipe.set_ip_adapter_scale(scales)
        generator = torch.Generator().manual_seed(1)
        asked = {"num_inference_steps": 2, "strength": 0.5, "generator": generator, "ip_adapter_image": images}
        wanted = pipe("a cat", image=Image.open("in.png"), **asked).images[0]
        assert np.abs(np.asarray(found).astype(int) - np.asarray(wanted).astype(int)).max() <= 1
    listed = json.loads(both.text["sdedit"])["ingredients"]
    assert [(one["kind"], one["name"], one.get("scale")) for one in listed] == [
        ("ip-adapter", "base", 1.0),
        ("ip-adapter", "plus", 0.5),
        ("ip-image", "look0", None),
        ("ip-image", "look1", None),
        ("ip-encoder", "image_encoder", None),
    ]
    assert all(len(one["sha256"]) == 64 for one in listed)
    assert str(place) not in both.text["sdedit"]
    (place / "look.toml").write_text('ip-adapter = [{path = "ip/plus.bin", scale = 0.5}]\nip-image = ["look0.png"]\n')
    with_preset = made("preset.png", "--preset", "look.toml", *ONE, *TWO)
    assert with_preset.tobytes() == several.tobytes()


def test_like_names_what_it_cannot_take_over_and_nothing_that_is_given_again(
    edit: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*edit, "-o", "first.png", *BASE, *ONE]) == 0
    loud = [word for word in edit if word != "-q"]
    assert run([*loud, "-o", "x.png", "--like", "first.png"]) == 0
    assert "ignored is ip-adapter: base; ip-image: look0; ip-encoder: image_encoder" in capsys.readouterr().err
    assert run([*loud, "-o", "x.png", "--like", "first.png", *BASE, *TWO]) == 0
    said = capsys.readouterr().err
    assert "was made with another ip-image" in said
    assert "ignored" not in said
    assert run([*loud, "-o", "again.png", "--like", "first.png", *BASE, *ONE]) == 0
    said = capsys.readouterr().err
    assert "ignored" not in said
    assert "promised" not in said
    assert Path("again.png").read_bytes() == Path("first.png").read_bytes()
    assert run([*loud, "-o", "x.png", "--like", "first.png", "--ip-adapter", "ip/base.bin:0.5", *ONE]) == 0
    assert "ip-adapter 'base' had other strengths" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (BASE, 2, "ip-adapter needs a picture to look at"),
        (ONE, 2, "ip-image needs an IP-Adapter"),
        ((*BASE, *PLUS, *ONE), 2, "1 of ip-image for 2 of ip-adapter"),
        ((*BASE, *PLUS, *ONE, *ONE, *TWO), 2, "3 of ip-image for 2 of ip-adapter"),
        (("--ip-adapter", "gone.bin", *ONE), 3, "--ip-adapter gone.bin: no such file"),
        ((*BASE, "--ip-image", "gone.png"), 3, "gone.png: no such file"),
        ((*BASE, "--ip-image", "-"), 3, "stdin is for the picture to edit"),
        ((*BASE, "--ip-image", "text.png"), 3, "text.png: is a text file"),
        ((*BASE, *ONE, "--ip-encoder", "gone"), 3, "--ip-encoder gone: no such file or folder"),
        ((*BASE, *ONE, "--ip-encoder", "model"), 3, "model: is no image encoder"),
        ((*BASE, *ONE, "--ip-encoder", "wrong"), 3, "takes embeddings of 20 numbers, and those of the image encoder"),
        (("--ip-adapter", "alone/base.safetensors", *ONE), 3, "name its folder with --ip-encoder"),
        (("--ip-adapter", "model/unet", *ONE), 3, "is no IP-Adapter"),
    ],
)
def test_what_is_missing_is_said_before_anything_is_loaded(
    options: tuple[str, ...],
    code: int,
    said: str,
    edit: list[str],
    place: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """--dry-run says the same."""

    def loads(*_: object, **__: object) -> None:
        pytest.fail("weights were loaded")

    monkeypatch.setattr("sdedit_cli.weights.load.networks.load_networks", loads)
    monkeypatch.setattr("sdedit_cli.weights.load_networks", loads, raising=False)
    for more in ((), ("--dry-run",)):
        assert run([*edit, "-o", "never.png", *options, *more]) == code
        words = capsys.readouterr().err
        assert said in words
        assert len(words.strip().splitlines()) <= 2
    assert not (place / "never.png").exists()


def test_a_mistake_of_numbers_is_told_without_torch(place: Path) -> None:
    check = "import sys\nfrom sdedit_cli.cli.main import run\ncode = run(sys.argv[1:])\n"
    check += "assert not {'torch', 'transformers'} & set(sys.modules), 'heavy'\nsys.exit(code)"
    command = [sys.executable, "-c", check, "run", "in.png", "-p", "a cat", *BASE]
    done = subprocess.run(command, cwd=place, env=environment(), capture_output=True, text=True, check=False)
    assert (done.returncode, "needs a picture" in done.stderr) == (2, True), done.stderr


def test_nothing_but_errors_is_said_when_quiet(place: Path) -> None:
    """Not even by the library that has the image encoder."""
    command = [
        sys.executable,
        "-m",
        "sdedit_cli",
        "run",
        "in.png",
        "-m",
        "model",
        "-p",
        "a cat",
        "-q",
        "-o",
        "quiet.png",
    ]
    done = subprocess.run(
        [*command, *QUICK, *PLUS, *ONE], cwd=place, env=environment(), capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "")
