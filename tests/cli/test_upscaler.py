"""`--upscaler`: a model that spandrel knows enlarges the picture, and the edit goes on from there."""

from __future__ import annotations

import importlib
import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.cli import QUICK, one_line, photo
from PIL import Image
from safetensors.torch import save_file

from sdedit_cli.cli.main import run
from sdedit_cli.engine.upscaler import Upscaler
from sdedit_cli.pictures.carriers import find

WORDS = ("-p", "a cat", "-q", *QUICK)


def spandrel() -> Any:
    try:
        return importlib.import_module("spandrel")
    except (ImportError, RuntimeError, OSError) as problem:  # so says a torchvision that was built for another torch
        pytest.skip(f"no spandrel here: {problem}")


def esrgan(features: int = 8, growth: int = 32) -> dict[str, torch.Tensor]:
    """A random ESRGAN of one block that enlarges four times, in the names of Real-ESRGAN."""
    shapes = {"conv_first": (features, 3), "conv_body": (features, features)}
    for block in (1, 2, 3):
        for number in range(1, 6):
            seen = features + (number - 1) * growth
            shapes[f"body.0.rdb{block}.conv{number}"] = (features if number == 5 else growth, seen)
    shapes |= dict.fromkeys(("conv_up1", "conv_up2", "conv_hr"), (features, features))
    shapes["conv_last"] = (3, features)
    generator = torch.Generator().manual_seed(0)
    tensors: dict[str, torch.Tensor] = {}
    for name, (out, seen) in shapes.items():
        tensors[f"{name}.weight"] = torch.randn(out, seen, 3, 3, generator=generator) / (3 * seen**0.5)
        tensors[f"{name}.bias"] = torch.full((out,), 0.4 if name == "conv_last" else 0.0)
    return tensors


def test_the_picture_that_is_edited_is_the_models(folder: Path) -> None:
    """Equal to spandrel's own call, in files of both kinds; at another factor brought to it; recorded, and asked for
    again."""
    known, tensors = spandrel(), esrgan()
    save_file(tensors, "up.safetensors")
    torch.save({"params_ema": tensors}, "up.pth")
    image = Image.open(photo(folder / "a.png"))
    x = torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)[None] / 255
    wanted = known.MAIN_REGISTRY.load(tensors).eval()(x)[0].permute(1, 2, 0).clamp(0, 1).numpy()
    for name in ("up.safetensors", "up.pth"):
        made = np.asarray(Upscaler(Path(name), torch.device("cpu"))(image)) / 255
        assert np.abs(made - wanted).max() <= 0.5 / 255 + 1e-6
    # A strength of one step in many leaves what was enlarged nearly as it is.
    options = ("--upscale", "4", "--upscaler", "up.pth")
    black = Image.new("L", image.size)
    black.save("black.png")
    assert run(["run", "a.png", *WORDS, *options, "--mask", "black.png", "-o", "kept.png"]) == 0
    with Image.open("kept.png") as kept:
        assert np.abs(np.asarray(kept) / 255 - wanted).max() <= 0.5 / 255 + 1e-6
    assert run(["run", "a.png", *WORDS, "--upscale", "3", *options[2:], "-o", "x.png"]) == 0
    with Image.open("x.png") as made:
        assert made.size == (3 * image.width, 3 * image.height)
    found = find("x.png")
    assert [one.name for one in found.ingredients if one.kind == "upscaler"] == ["up"]
    assert run(["run", "a.png", "--like", "x.png", "-q", "--device", "cpu", "--upscaler", "up.pth", "-o", "y.png"]) == 0
    assert Path("y.png").read_bytes() == Path("x.png").read_bytes()


def test_parts_and_edges_that_meet_are_those_of_the_whole(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    spandrel()
    save_file(esrgan(), tmp_path / "up.safetensors")
    model = Upscaler(tmp_path / "up.safetensors", torch.device("cpu"))
    noise = np.random.default_rng(1).integers(0, 256, (90, 150, 3), dtype=np.uint8)
    whole = np.asarray(model(Image.fromarray(noise))).astype(int)
    monkeypatch.setattr("sdedit_cli.engine.upscaler._PART", 64)
    assert np.abs(np.asarray(model(Image.fromarray(noise))) - whole).max() <= 1
    seamless = np.asarray(model(Image.fromarray(noise), (True, True))).astype(int)
    rolled = np.asarray(model(Image.fromarray(np.roll(noise, (40, 70), (0, 1))), (True, True))).astype(int)
    assert np.abs(np.roll(rolled, (-160, -280), (0, 1)) - seamless).max() <= 1
    assert np.abs(seamless - whole).max() > 1


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (("--upscaler", "up.pth"), 2, "add --upscale N"),
        (("--upscaler", "up.pth", "--upscale", "2", "--strokes", "6"), 2, "exclude each other"),
        (("--upscaler", "no.pth", "--upscale", "2"), 3, "no.pth"),
    ],
)
def test_what_cannot_be_is_refused_in_words(
    folder: Path, options: tuple[str, ...], code: int, words: str, capfd: pytest.CaptureFixture[str]
) -> None:
    photo(folder / "a.png")
    assert run(["run", "a.png", *WORDS, *options, "-o", "x.png"]) == code
    assert words in one_line(capfd.readouterr().err)
    assert not Path("x.png").exists()


class _Evil:
    def __reduce__(self) -> Any:
        return (Path.touch, (Path("evil"),))


def test_no_code_of_a_file_runs(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    photo(folder / "a.png")
    Path("up.pth").write_bytes(pickle.dumps({"params": _Evil()}))
    assert run(["run", "a.png", *WORDS, "--upscaler", "up.pth", "--upscale", "2", "-o", "x.png"]) == 3
    assert one_line(capfd.readouterr().err)
    assert not Path("evil").exists()


def test_without_spandrel_it_is_said_what_to_install(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    photo(folder / "a.png")
    save_file({"conv.weight": torch.zeros(3, 3, 3, 3)}, "up.safetensors")
    monkeypatch.setitem(sys.modules, "spandrel", None)
    assert run(["run", "a.png", *WORDS, "--upscaler", "up.safetensors", "--upscale", "2", "-o", "x.png"]) == 3
    assert "pip install 'sdedit-cli[upscale]'" in one_line(capfd.readouterr().err)


def test_another_model_is_named(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    spandrel()
    photo(folder / "a.png")
    save_file({"conv.weight": torch.zeros(3, 3, 3, 3)}, "up.safetensors")
    assert run(["run", "a.png", *WORDS, "--upscaler", "up.safetensors", "--upscale", "2", "-o", "x.png"]) == 3
    assert "is no model that spandrel" in one_line(capfd.readouterr().err)
