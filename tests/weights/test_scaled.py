"""fp8 weights with scales beside them: multiplied, or refused by the scale's name; never read as they are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.tiny.single_files import shared
from safetensors.torch import load_file, save_file

from sdedit_cli.errors import ModelError
from sdedit_cli.weights import load_networks, open_checkpoint, open_weights
from sdedit_cli.weights.write.convert import convert

UNET = "model.diffusion_model."


def scaled(
    tensors: dict[str, torch.Tensor],
    *,
    kind: torch.dtype = torch.float8_e4m3fn,
    word: str = "scale_weight",
    by_row: bool = False,
) -> dict[str, torch.Tensor]:
    """The file with the UNet's linear weights in fp8 and their scales beside them, as ComfyUI writes them."""
    made: dict[str, torch.Tensor] = {}
    for name, weight in tensors.items():
        if not (name.startswith(UNET) and name.endswith(".weight") and weight.ndim == 2):
            made[name] = weight
            continue
        size = weight.abs().amax(dim=1, keepdim=True) if by_row else weight.abs().max().reshape(1)
        scale = size.float() / torch.finfo(kind).max
        made[name] = (weight / scale).to(kind)
        made[f"{name.removesuffix('weight')}{word}"] = scale
        made[f"{name.removesuffix('weight')}scale_input"] = torch.ones(1)
    return made | {f"{UNET}scaled_fp8": torch.zeros(2, dtype=kind)}


@pytest.fixture(scope="module")
def plain() -> dict[str, torch.Tensor]:
    return load_file(shared("sd15")[1])


def save(folder: Path, tensors: dict[str, torch.Tensor], ending: str = "safetensors") -> Path:
    path = folder / f"model.{ending}"
    if ending == "safetensors":
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
    else:
        torch.save({"state_dict": tensors}, path)
    return path


@pytest.mark.parametrize("partial", [False, True])
@pytest.mark.parametrize(
    ("ending", "options"),
    [
        ("safetensors", {}),
        ("safetensors", {"by_row": True}),
        ("safetensors", {"kind": torch.float8_e5m2}),
        ("safetensors", {"word": "weight_scale"}),
        ("ckpt", {}),
    ],
)
def test_a_scaled_weight_is_the_number_times_its_scale(
    plain: dict[str, torch.Tensor], tmp_path: Path, ending: str, options: dict[str, Any], partial: bool
) -> None:
    path = save(tmp_path, scaled(plain, **options), ending)
    expected, made = load_networks(shared("sd15")[1]).unet, load_networks(path, partial=partial).unet
    assert expected is not None
    assert made is not None
    steps = 4 if options.get("kind") is torch.float8_e5m2 else 8  # numbers between a power of two and the next
    for (name, right), weight in zip(expected.state_dict().items(), made.state_dict().values(), strict=True):
        # A fp8 number is right to half a step, or where it is tiny, to half of the smallest that there is.
        slack = right.abs() / steps + right.abs().max() / 2**15
        assert ((weight - right).abs() <= slack).all(), name


def test_shards_may_part_a_weight_from_its_scale(tmp_path: Path) -> None:
    save_file({"a.weight": torch.ones(2, 2).to(torch.float8_e4m3fn)}, tmp_path / "1.safetensors")
    save_file({"a.scale_weight": torch.tensor(3.0)}, tmp_path / "2.safetensors")
    index = {"weight_map": {"a.weight": "1.safetensors", "a.scale_weight": "2.safetensors"}}
    (tmp_path / "m.safetensors.index.json").write_text(json.dumps(index))
    source = open_weights(tmp_path / "m.safetensors.index.json")
    assert source.names() == ["a.weight"]
    assert source.dtype("a.weight") == torch.float32
    assert torch.equal(source.get("a.weight"), torch.full((2, 2), 3.0))


def test_what_is_converted_holds_the_products(plain: dict[str, torch.Tensor], tmp_path: Path) -> None:
    path = save(tmp_path, scaled(plain))
    assert "fp8 with scales" in open_checkpoint(path).format
    convert(path, tmp_path / "out.safetensors", dtype=torch.float16)
    made, right = load_networks(tmp_path / "out.safetensors").unet, load_networks(path, dtype=torch.float16).unet
    assert made is not None
    assert right is not None
    for name, weight in right.state_dict().items():
        assert torch.equal(made.state_dict()[name], weight), name


@pytest.mark.parametrize("partial", [False, True])
@pytest.mark.parametrize(
    ("name", "change"),
    {
        "no weight": ("nothing.scale_weight", {"nothing.scale_weight": torch.ones(1)}),
        "not fp8": ("a.scale_weight", {"a.weight": torch.ones(4, 4), "a.scale_weight": torch.ones(1)}),
        "int8": ("a.weight_scale", {"a.weight": torch.ones(4, 4).to(torch.int8), "a.weight_scale": torch.ones(1)}),
        "blocks": ("b.weight_scale_inv", {"b.weight_scale_inv": torch.ones(2, 2)}),
        "columns": (
            "a.scale_weight",
            {"a.weight": torch.ones(4, 2).to(torch.float8_e4m3fn), "a.scale_weight": torch.ones(1, 2)},
        ),
        "whole numbers": (
            "a.scale_weight",
            {"a.weight": torch.ones(4, 2).to(torch.float8_e4m3fn), "a.scale_weight": torch.ones(1).int()},
        ),
    }.values(),
)
def test_a_scale_that_cannot_be_applied_is_refused_by_name(
    plain: dict[str, torch.Tensor], tmp_path: Path, name: str, change: dict[str, torch.Tensor], partial: bool
) -> None:
    path = save(tmp_path, plain | {f"{UNET}{key}": value for key, value in change.items()})
    with pytest.raises(ModelError, match=name) as refused:
        load_networks(path, partial=partial)
    assert "--partial" not in str(refused.value)
