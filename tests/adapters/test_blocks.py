"""Block weights and ranks of LoRAs, against merges by hand."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.loras import DIALECTS, RANK, Factors, factors
from safetensors.torch import save_file
from torch import Tensor

from sdedit_cli import StableDiffusionImg2ImgPipeline
from sdedit_cli.adapters.architecture import Architecture
from sdedit_cli.adapters.lora import read_adapter
from sdedit_cli.adapters.strengths import by_block
from sdedit_cli.configs.unet import UNetConfig
from sdedit_cli.engine.merging import Merging, at_work, check_files, merge_files
from sdedit_cli.errors import ModelError
from sdedit_cli.names.table import modules
from sdedit_cli.names.unet import unet_table
from sdedit_cli.options.adapters import LoraFile
from sdedit_cli.options.blocks import BLOCKS


def block(name: str, layers: int) -> str:
    """The original block of a module of the UNet, by the formula of the naming; '' outside of blocks."""
    head, *rest = name.split(".")
    if head == "conv_in":
        return "IN00"
    if head == "mid_block":
        return "M00"
    if head not in ("down_blocks", "up_blocks"):
        return ""
    level, kind, j = int(rest[0]), rest[1], int(rest[2])
    if head == "down_blocks":
        return f"IN{(layers + 1) * level + (layers + 1 if kind == 'downsamplers' else j + 1):02}"
    return f"OUT{(layers + 1) * level + (layers if kind == 'upsamplers' else j):02}"


def merged(pipe: Any, of: Factors, strength: Any, ranks: int = RANK) -> dict[str, Tensor]:
    """The weights with every module's product, times its strength, added by hand."""
    made: dict[str, Tensor] = {}
    for (slot, module), (down, up, alpha) in of.items():
        weight = getattr(pipe, slot).get_submodule(module).weight
        delta = (up.flatten(1)[:, :ranks] @ down.flatten(1)[:ranks]).reshape(weight.shape) * (alpha / RANK)
        made[f"{slot}.{module}"] = weight + strength(slot, module) * delta
    return made


def by_us(pipe: Any, of: Factors, file: LoraFile) -> dict[str, Tensor]:
    networks = {"unet": pipe.unet, "text_encoder": pipe.text_encoder}
    merge_files([file], Merging(networks), pipe.unet.config, partial=False)
    return {f"{slot}.{module}": getattr(pipe, slot).get_submodule(module).weight for slot, module in of}


def written(pipe: Any, of: Factors, path: Path, dialect: str = "kohya") -> str:
    save_file({k: v.contiguous() for k, v in DIALECTS[dialect](pipe, of).items()}, path)
    return str(path)


def far(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> list[str]:
    assert found.keys() == wanted.keys()
    return [name for name in found if not torch.allclose(found[name], wanted[name], atol=1e-6)]


@pytest.mark.parametrize("dialect", ["kohya", "kohya, original blocks", "diffusers, middle"])
def test_numbers_go_to_modules_by_the_original_names_of_their_blocks(
    dialect: str, pipe: StableDiffusionImg2ImgPipeline, tmp_path: Path
) -> None:
    """Whatever the names in the file. BASE is the text encoder; strengths multiply, outside of blocks they stay."""
    layers = pipe.unet.config.layers_per_block
    assert isinstance(layers, int)
    of = factors(pipe, alpha=float(RANK))
    numbers = {name: round(0.1 + 0.05 * n, 2) for n, name in enumerate(BLOCKS)}
    seen: set[str] = set()

    def strength(slot: str, module: str) -> float:
        if slot == "text_encoder":
            return 0.5 * numbers["BASE"]
        name = block(module, layers)
        seen.add(name)
        return 2.0 * numbers.get(name, 1.0)

    wanted = merged(pipe, of, strength)
    assert {"", "IN00", "IN01", "M00", "OUT00"} <= seen
    text = ",".join(map(str, numbers.values()))
    assert (
        far(by_us(pipe, of, LoraFile(written(pipe, of, tmp_path / "a.safetensors", dialect), 2.0, 0.5, text)), wanted)
        == []
    )


def test_blocks_that_the_seventeen_do_not_name_are_left_out(
    pipe: StableDiffusionImg2ImgPipeline, tmp_path: Path
) -> None:
    of = factors(pipe)
    left_out = {"IN00", "IN03", "IN06", "IN09", "IN10", "IN11", "OUT00", "OUT01", "OUT02"}
    wanted = merged(pipe, of, lambda slot, module: float(slot != "unet" or block(module, 1) not in left_out))
    found = by_us(pipe, of, LoraFile(written(pipe, of, tmp_path / "a.safetensors"), blocks="ALL"))
    layers = pipe.unet.config.layers_per_block
    assert layers == 1, "the formula above is for this one"
    assert far(found, wanted) == []


def test_every_block_of_a_model_of_the_common_shape_has_its_number() -> None:
    config = UNetConfig()
    names = modules(unet_table(config))
    strengths = by_block(range(26), 1.0, 1.0, [("unet", name) for name in names], config)
    found = {name: strengths["unet", name] for name in names}
    assert {name: found[name] for name in names if block(name, 2)} == {
        name: BLOCKS.index(block(name, 2)) for name in names if block(name, 2)
    }
    assert set(found.values()) == set(range(1, 26))
    assert found["down_blocks.0.downsamplers.0.conv"] == BLOCKS.index("IN03")
    assert found["up_blocks.1.upsamplers.0.conv"] == BLOCKS.index("OUT05")
    assert found["time_embedding.linear_1"] == 1.0


def test_a_model_of_more_blocks_than_there_are_numbers_has_strengths_alone(tmp_path: Path) -> None:
    """Its thirteenth input block would have the middle's number, and its thirteenth output block none."""
    config = UNetConfig(block_out_channels=(32,) * 4, layers_per_block=3)
    names = ["down_blocks.3.resnets.2.conv1", "up_blocks.3.resnets.3.conv1"]
    path = tmp_path / "a.safetensors"
    save_file({f"lora_unet_{name.replace('.', '_')}.diff_b": torch.ones(32) for name in names}, path)
    adapter = read_adapter(path, config, None)
    found = at_work([LoraFile(str(path), 0.5)], [adapter], config)
    assert dict(found.active["0"]) == {("unet", name): 0.5 for name in names}

    by_blocks = [LoraFile(str(path), 0.5, blocks="OUTALL")]
    told = re.escape(f"{path}: block weights") + ".*at most 12 .* 16 and 16"
    with pytest.raises(ModelError, match=told):
        at_work(by_blocks, [adapter], config)
    with pytest.raises(ModelError, match=told):
        check_files(by_blocks, Architecture("deep", config, None), partial=False)


@pytest.mark.parametrize("ranks", [1, 3, 9])
def test_the_first_ranks_count_alone_and_keep_their_scale(
    ranks: int, pipe: StableDiffusionImg2ImgPipeline, tmp_path: Path
) -> None:
    of = factors(pipe, differing=True)
    wanted = merged(pipe, of, lambda slot, module: 0.5, ranks)
    file = LoraFile(written(pipe, of, tmp_path / "a.safetensors"), 0.5, dyn=ranks)
    assert far(by_us(pipe, of, file), wanted) == []
