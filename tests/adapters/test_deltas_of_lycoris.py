"""Changes agree with the forward pass of the modules of `lycoris-lora`, which trained most of these files.

With its forward pass, because its `merge_to` applies alpha / r of LoHa and LoKr twice.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from helpers.adapters import drawn
from lycoris.modules.boft import ButterflyOFTModule
from lycoris.modules.diag_oft import DiagOFTModule
from lycoris.modules.full import FullModule
from lycoris.modules.glora import GLoRAModule
from lycoris.modules.ia3 import IA3Module
from lycoris.modules.locon import LoConModule
from lycoris.modules.loha import LohaModule
from lycoris.modules.lokr import LokrModule
from lycoris.modules.norms import NormModule
from torch import Tensor, nn
from torch.nn import functional as F

from sdedit_cli.adapters.deltas import bias_delta, kinds_of, weight_delta

LAYERS = {
    "linear": lambda: nn.Linear(24, 16),
    "conv3": lambda: nn.Conv2d(24, 16, 3, padding=1),
    "conv3_stride": lambda: nn.Conv2d(24, 16, 3, stride=2, padding=1, bias=False),
    "conv1": lambda: nn.Conv2d(24, 16, 1),
}
OURS = {"lora_up": "up", "lora_down": "down", "lora_mid": "mid"}

# Class, rank, further arguments, and the kinds and forms that must come out of its state dict.
MODULES: dict[str, tuple[type[Any], int, dict[str, Any], str]] = {
    "locon": (LoConModule, 3, {}, "lora"),
    "locon rs": (LoConModule, 4, {"rs_lora": True}, "lora"),
    "locon tucker": (LoConModule, 3, {"use_tucker": True}, "lora"),
    "locon scalar": (LoConModule, 3, {"use_scalar": True}, "lora"),
    "dora out": (LoConModule, 3, {"weight_decompose": True, "wd_on_out": True}, "lora dora"),
    "dora in": (LoConModule, 3, {"weight_decompose": True, "wd_on_out": False}, "lora dora"),
    "loha": (LohaModule, 3, {}, "loha"),
    "loha rs": (LohaModule, 4, {"rs_lora": True}, "loha"),
    "loha tucker": (LohaModule, 3, {"use_tucker": True}, "loha"),
    "loha dora out": (LohaModule, 3, {"weight_decompose": True, "wd_on_out": True}, "loha dora"),
    "loha dora in": (LohaModule, 3, {"weight_decompose": True, "wd_on_out": False}, "loha dora"),
    "lokr second": (LokrModule, 2, {}, "lokr"),
    "lokr both": (LokrModule, 1, {"decompose_both": True}, "lokr"),
    "lokr whole": (LokrModule, 2, {"full_matrix": True}, "lokr"),
    "lokr large rank": (LokrModule, 100, {}, "lokr"),
    "lokr core": (LokrModule, 2, {"use_tucker": True}, "lokr"),
    "lokr factor": (LokrModule, 2, {"factor": 2}, "lokr"),
    "lokr unbalanced": (LokrModule, 2, {"factor": 2, "unbalanced_factorization": True}, "lokr"),
    "lokr rs": (LokrModule, 2, {"rs_lora": True, "factor": 2}, "lokr"),
    "lokr dora out": (LokrModule, 2, {"weight_decompose": True, "wd_on_out": True}, "lokr dora"),
    "lokr dora in": (LokrModule, 2, {"weight_decompose": True, "wd_on_out": False}, "lokr dora"),
    "ia3 out": (IA3Module, 1, {}, "ia3"),
    "ia3 in": (IA3Module, 1, {"train_on_input": True}, "ia3"),
    "glora": (GLoRAModule, 3, {}, "glora"),
    "oft": (DiagOFTModule, 4, {}, "oft"),
    "oft limited": (DiagOFTModule, 4, {"constraint": 0.05}, "oft"),
    "oft rescaled": (DiagOFTModule, 4, {"rescaled": True, "constraint": 0.05}, "oft"),
    "boft": (ButterflyOFTModule, 4, {}, "oft"),
    "boft limited": (ButterflyOFTModule, 8, {"constraint": 0.05}, "oft"),
    "boft rescaled": (ButterflyOFTModule, 2, {"rescaled": True}, "oft"),
    "full": (FullModule, 1, {}, "full bias"),
}


def shaken(module: nn.Module, draw: torch.Generator) -> None:
    """Numbers in place of what training starts from, which is no change at all."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=draw) * 0.3)


def leaves_of(module: Any, ia3: bool) -> dict[str, Tensor]:
    """What LyCORIS saves of the module, by our names."""
    saved: dict[str, Tensor] = {key: tensor.detach().clone() for key, tensor in module.state_dict().items()}
    if ia3:
        return {f"ia3_{key}": tensor for key, tensor in saved.items()}
    stems = {key: key.removesuffix(".weight") for key in saved}
    return {OURS.get(stem, stem): saved[key] for key, stem in stems.items() if stem != "scalar"}


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("name", MODULES)
def test_a_layer_with_the_change_is_the_forward_of_the_module(name: str, layer: str) -> None:
    kind, rank, more, kinds = MODULES[name]
    draw = drawn(len(name))
    torch.manual_seed(len(layer))
    org = LAYERS[layer]().requires_grad_(False)
    weight, bias = org.weight.clone(), None if org.bias is None else org.bias.clone()
    x = torch.randn(2, 24, 5, 5, generator=draw) if isinstance(org, nn.Conv2d) else torch.randn(7, 24, generator=draw)
    before = org(x)
    module = kind("name", org, 1.0, rank, 1.7, **more).eval()
    if kind is FullModule:
        # It takes the place of the layer's own parameters, and saves its difference from them.
        module.apply_to()
    shaken(module, draw)
    leaves, theirs = leaves_of(module, kind is IA3Module), module(x).detach()
    assert {k.name for k in kinds_of(leaves)} == set(kinds.split()) - ({"bias"} if bias is None else set())

    delta, shift = weight_delta(leaves, weight), None if bias is None else bias_delta(leaves, bias)
    assert delta is not None
    weight, bias = weight + delta, bias if shift is None or bias is None else bias + shift
    ours = (
        F.conv2d(x, weight, bias, stride=org.stride, padding=org.padding)
        if isinstance(org, nn.Conv2d)
        else F.linear(x, weight, bias)
    )
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(before, theirs, atol=1e-2)


def test_norms() -> None:
    draw = drawn()
    for org, x in (
        (nn.LayerNorm(16), torch.randn(3, 16, generator=draw)),
        (nn.GroupNorm(4, 16), torch.randn(3, 16, 2, 2, generator=draw)),
    ):
        module = NormModule("name", org.requires_grad_(False), 1.0).eval()
        shaken(module, draw)
        theirs = module(x).detach()
        leaves = leaves_of(module, ia3=False)
        weight, bias = weight_delta(leaves, org.weight), bias_delta(leaves, org.bias)
        assert weight is not None
        assert bias is not None
        org.weight.add_(weight)
        org.bias.add_(bias)
        torch.testing.assert_close(org(x), theirs)
