"""Changes agree with the layers of `peft`: LoRA, rank-stabilised, with biases, DoRA, and OFTv2."""

from __future__ import annotations

import pytest
import torch
from helpers.adapters import drawn
from peft import LoraConfig, OFTConfig, get_peft_model
from peft.config import PeftConfig
from torch import Tensor, nn

from sdedit_cli.adapters.deltas import Scaling, bias_delta, kinds_of, weight_delta

OURS = {
    "lora_A.weight": "down",
    "lora_B.weight": "up",
    "lora_B.bias": "up_bias",
    "lora_magnitude_vector.weight": "magnitude",
    "lora_magnitude_vector": "magnitude",
    "oft_R.weight": "oft_R",
}
LAYERS = {
    "linear": lambda: nn.Linear(24, 16),
    "square": lambda: nn.Linear(24, 24),
    "conv3": lambda: nn.Conv2d(24, 16, 3, padding=1),
    "conv1": lambda: nn.Conv2d(24, 16, 1),
}


def adapted(layer: str, config: PeftConfig, draw: torch.Generator) -> tuple[nn.Module, nn.Module, dict[str, Tensor]]:
    """The layer, PEFT's model around a copy of it, and that one's leaves, which are no longer those of no change."""
    org = LAYERS[layer]()
    with torch.no_grad():
        for parameter in org.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=draw) * 0.3)
    copied = LAYERS[layer]()
    copied.load_state_dict(org.state_dict())
    model = get_peft_model(nn.Sequential(copied), config).eval()  # type: ignore[arg-type]
    leaves: dict[str, Tensor] = {}
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=draw) * 0.2)
                stem = key.split(".0.", 1)[1].replace(".default", "")
                leaves[OURS[stem]] = parameter.detach().clone()
    return org, model, leaves


def changed(org: nn.Module, leaves: dict[str, Tensor], scaling: Scaling) -> nn.Module:
    """The layer with our change in it."""
    assert isinstance(org, (nn.Linear, nn.Conv2d))
    assert org.bias is not None
    delta, shift = weight_delta(leaves, org.weight, scaling), bias_delta(leaves, org.bias, scaling)
    assert delta is not None
    with torch.no_grad():
        org.weight.add_(delta)
        if shift is not None:
            org.bias.add_(shift)
    return org


def inputs(layer: str, draw: torch.Generator) -> Tensor:
    return torch.randn((5, 24, 6, 6) if layer.startswith("conv") else (5, 24), generator=draw)


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("rank_stabilised", [False, True])
@pytest.mark.parametrize("more", [{}, {"lora_bias": True}, {"use_dora": True}], ids=["lora", "bias", "dora"])
def test_lora(layer: str, rank_stabilised: bool, more: dict[str, bool]) -> None:
    draw = drawn(1)
    config = LoraConfig(r=4, lora_alpha=7, target_modules=["0"], use_rslora=rank_stabilised, **more)
    org, model, leaves = adapted(layer, config, draw)
    told = {"lora_bias": {"lora", "lora_bias"}, "use_dora": {"lora", "dora"}}
    assert {kind.name for kind in kinds_of(leaves)} == told.get("".join(more), {"lora"})
    x = inputs(layer, draw)
    before, theirs = org(x).detach(), model(x).detach()
    ours = changed(org, leaves, Scaling(alpha=7.0, rank_stabilised=rank_stabilised))(x).detach()
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(before, theirs, atol=0.1)


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("shared", [False, True])
def test_oft(layer: str, shared: bool) -> None:
    """Larger kernels against the merged weight: PEFT's forward adds up overlapping patches, and is another function."""
    draw = drawn(2)
    config = OFTConfig(r=0, oft_block_size=4, target_modules=["0"], block_share=shared)
    org, model, leaves = adapted(layer, config, draw)
    assert {kind.name for kind in kinds_of(leaves)} == {"oft_v2"}
    assert len(leaves["oft_R"]) == 1 or not shared
    x = inputs(layer, draw)
    before = org(x).detach()
    whole: nn.Module = model.merge_and_unload() if layer == "conv3" else model  # type: ignore[operator]
    theirs = whole(x).detach()
    ours = changed(org, leaves, Scaling(of_peft=True))(x).detach()
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(before, theirs, atol=0.1)
