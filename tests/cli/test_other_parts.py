"""An autoencoder of other latents, and parts of two models in one folder, are told before anything is computed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from helpers.cli import BUILT_IN, QUICK, one_line, photo
from helpers.tiny.networks import tiny_vae
from safetensors.torch import load_file, save_file

from sdedit_cli.cli.main import run
from sdedit_cli.weights.write.save import save_components

WORDS = ("run", "a.png", "-p", "x", "-o", "x.png", *QUICK)


@pytest.mark.parametrize("more", [(), ("--dry-run",)], ids=["run", "dry run"])
def test_an_autoencoder_of_other_latents_is_refused(
    folder: Path, more: tuple[str, ...], capfd: pytest.CaptureFixture[str]
) -> None:
    photo(folder / "a.png")
    save_components(folder / "vae", {"vae": tiny_vae(latent_channels=16)})
    assert run([*WORDS, "--vae", "vae", *more]) == 3
    assert "vae: is for latents of 16 channels, and this model's have 4" in one_line(capfd.readouterr().err)
    assert not Path("x.png").exists()


def test_parts_of_two_models_are_told_by_info_and_by_a_run(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    photo(folder / "a.png")
    shutil.copytree(BUILT_IN, "model")
    save_components(folder / "vae", {"vae": tiny_vae(latent_channels=16)})
    shutil.rmtree("model/vae")
    shutil.move("vae", "model/vae")
    assert run(["info", "model"]) == 0
    assert "16" in capfd.readouterr().out
    assert run([*WORDS, "-m", "model"]) == 3
    assert one_line(capfd.readouterr().err)


def test_a_lora_is_merged_into_numbers_of_eight_bits(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(BUILT_IN, "model")
    file = next(Path("model/unet").glob("*.safetensors"))
    save_file({name: tensor.to(torch.float8_e4m3fn) for name, tensor in load_file(file).items()}, file)
    assert run(["lora", "merge", "model", "merged", "--lora", "blueprint", "--json"]) == 0
    told = json.loads(capfd.readouterr().out)
    assert (told["file"], [Path(one["file"]).stem for one in told["adapters"]]) == ("merged", ["blueprint"])
    assert all(one["keys"] == 3 * one["modules"] > 0 for one in told["adapters"])
    merged = load_file(next(Path("merged/unet").glob("*.safetensors")))
    assert {tensor.dtype for tensor in merged.values()} == {torch.float8_e4m3fn}
    assert json.loads(Path("merged/model_index.json").read_text())["unet"]


def test_an_autoencoder_may_be_named_without_its_ending(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    photo(folder / "a.png")
    held = next((BUILT_IN / "vae").glob("*.safetensors"))
    shutil.copytree(BUILT_IN / "vae", "v")
    assert run([*WORDS, "--vae", "v"]) == 0
    shutil.copy(held, "other.safetensors")
    batch = ("batch", "a.png", "out", "-p", "x", *QUICK, "--vae", "other")
    for again in (False, True):
        code = run([*batch])
        words = capfd.readouterr().err
        assert code == 0, words
        assert f"{int(not again)} made, {int(again)} unchanged" in words
    state = load_file(held)
    save_file({name: tensor + 0.001 for name, tensor in state.items()}, "other.safetensors")
    assert run([*batch]) == 0
    assert "1 made, 0 unchanged" in capfd.readouterr().err
    assert run([*batch[:-1], "none"]) == 3
    assert "--vae none: no such file or folder" in one_line(capfd.readouterr().err)
