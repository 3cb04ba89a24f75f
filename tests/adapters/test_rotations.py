"""OFTv2 turns convolutions one way in PEFT's files and the other in OneTrainer's, marked or not, wherever it goes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from sdedit_cli import StableDiffusionImg2ImgPipeline
from sdedit_cli.cli.main import run

LAYERS = (
    "down_blocks.0.resnets.0.conv1",
    "mid_block.attentions.0.proj_in",
    "mid_block.attentions.0.transformer_blocks.0.attn1.to_q",
)
BLOCK = 8
NAMES = {
    "OneTrainer": lambda layer: f"lora_unet_{layer.replace('.', '_')}",
    "OneTrainer, dotted": lambda layer: f"unet.{layer}",
    "PEFT": lambda layer: f"base_model.model.{layer}",
    "PEFT, unet": lambda layer: f"unet.base_model.model.{layer}",
}


def vectors(pipe: StableDiffusionImg2ImgPipeline) -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(0)
    counts = {layer: pipe.unet.get_submodule(layer).weight[0].numel() // BLOCK for layer in LAYERS}
    return {layer: torch.randn(n, BLOCK * (BLOCK - 1) // 2, generator=draw) * 0.1 for layer, n in counts.items()}


def named(naming: str, of: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{NAMES[naming](layer)}.oft_R.weight": vector for layer, vector in of.items()}


def turned(weight: Tensor, vector: Tensor, *, of_peft: bool) -> Tensor:
    """W·R of convolutions in OneTrainer, W·Rᵀ of everything else, block by block of inputs."""
    count = weight[0].numel() // BLOCK
    q = torch.zeros(count, BLOCK, BLOCK)
    row, column = torch.triu_indices(BLOCK, BLOCK, 1)
    q[:, row, column] = vector
    q = q - q.mT
    rotation = torch.eye(BLOCK) + 2 * q + 2 * q @ q + 2 * q @ q @ q + q @ q @ q @ q
    side = rotation if weight.dim() > 2 and not of_peft else rotation.mT
    return torch.einsum("ork,rkc->orc", weight.reshape(len(weight), count, BLOCK), side).reshape(weight.shape)


def assert_turned(pipe: StableDiffusionImg2ImgPipeline, source: Any, of: dict[str, Tensor], *, of_peft: bool) -> None:
    before = {layer: pipe.unet.get_submodule(layer).weight.clone() for layer in of}
    pipe.load_lora_weights(source)
    for layer, vector in of.items():
        wanted = turned(before[layer], vector, of_peft=of_peft)
        torch.testing.assert_close(pipe.unet.get_submodule(layer).weight, wanted, atol=1e-5, rtol=1e-5)
    pipe.unload_lora_weights()


@pytest.mark.parametrize("naming", NAMES)
def test_convolutions_are_turned_as_the_program_does_whose_names_a_file_has(
    naming: str, pipe: StableDiffusionImg2ImgPipeline, tmp_path: Path
) -> None:
    of, of_peft = vectors(pipe), naming.startswith("PEFT")
    save_file(named(naming, of), tmp_path / "a.safetensors")
    state, _ = pipe.lora_state_dict(tmp_path / "a.safetensors")
    assert state.keys() == named(naming, of).keys()
    for source in (tmp_path / "a.safetensors", state):
        assert_turned(pipe, source, of, of_peft=of_peft)


@pytest.mark.parametrize("told", ["header", "folder", "halves"])
def test_a_config_of_peft_says_whose_file_it_is_also_as_a_state_dict(
    told: str, pipe: StableDiffusionImg2ImgPipeline, tmp_path: Path
) -> None:
    """Such names alone would be OneTrainer's."""
    of, config = vectors(pipe), {"peft_type": "OFT"}
    place = tmp_path / "unet" if told == "halves" else tmp_path
    place.mkdir(exist_ok=True)
    state = {key.removeprefix("unet."): tensor for key, tensor in named("OneTrainer, dotted", of).items()}
    if told == "header":
        save_file(state, place / "adapter.safetensors", {"lora_adapter_metadata": json.dumps(config)})
    else:
        save_file(state, place / "adapter_model.safetensors")
        (place / "adapter_config.json").write_text(json.dumps(config))
    read, _ = pipe.lora_state_dict(tmp_path)
    for source in (tmp_path, read):
        assert_turned(pipe, source, of, of_peft=True)


@pytest.mark.parametrize("naming", NAMES)
def test_converted_to_other_names_they_turn_as_before(
    naming: str, folder: Path, pipe: StableDiffusionImg2ImgPipeline, tmp_path: Path
) -> None:
    """Rᵀ is the R of the same vectors, negative: kohya's names then mean what PEFT's did."""
    of = vectors(pipe)
    for dtype in (torch.float32, torch.float8_e5m2):
        file, out = tmp_path / f"{dtype}.safetensors", tmp_path / f"out {dtype}.safetensors"
        save_file({key: tensor.to(dtype) for key, tensor in named(naming, of).items()}, file)
        assert run(["lora", "convert", str(file), str(out), "--to", "kohya", "-m", str(folder)]) == 0
        assert {tensor.dtype for tensor in load_file(out).values()} == {dtype}
        low = {layer: vector.to(dtype).float() for layer, vector in of.items()}
        assert_turned(pipe, out, low, of_peft=naming.startswith("PEFT"))
