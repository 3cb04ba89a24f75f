"""Networks on a CPU: packed weights and operations in place have the bits of plain ones on pictures with their channels
last, and whoever looks at a weight finds it as it was. In float32 it is oneDNN that multiplies, packed or not."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from helpers.packing import needs_bf16, network, packed, run
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from sdedit_cli.adapters.dialects import Module
from sdedit_cli.adapters.lora import Adapter, Patch
from sdedit_cli.engine.merging import Merging
from sdedit_cli.nn import ops as plain
from sdedit_cli.nn.attention import GEGLU
from sdedit_cli.nn.base import Conv2d, Linear, Model
from sdedit_cli.nn.fuse import fuse_qkv, unfuse_qkv
from sdedit_cli.runtime import cpu
from sdedit_cli.runtime.cpu.packed import FEWEST_ROWS, is_there
from sdedit_cli.runtime.cpu.weights import Weights

pytestmark = pytest.mark.skipif(not is_there(), reason="torch has no oneDNN for this kind of processor")


@pytest.fixture(autouse=True)
def _no_gradients():
    with torch.no_grad():
        yield


def bits(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def product(layer: Conv2d, x_BCHW: Tensor, bias: Tensor | None, _: tuple[int, int]) -> Tensor:
    """A convolution of single places."""
    return F.linear(x_BCHW.permute(0, 2, 3, 1).contiguous(), layer.weight.flatten(1), bias).permute(0, 3, 1, 2)


def gated(layer: GEGLU, x_BE: Tensor) -> Tensor:
    """What a gated layer computes where nothing is rounded between its products, on weights as they are."""
    (value, gate), (value_bias, gate_bias) = layer.proj.weight.chunk(2), layer.proj.bias.chunk(2)
    gate_BE = torch.ops.mkldnn._linear_pointwise(x_BE.contiguous(), gate, gate_bias, "gelu", [], "none")
    return torch.ops.mkldnn._linear_pointwise.binary(x_BE.contiguous(), gate_BE, value, value_bias, "mul")


@needs_bf16
@pytest.mark.parametrize("kind", ["sd15", "sd21", "vae"])
def test_packed_weights_compute_the_bits_of_plain_ones_on_channels_last(kind: str) -> None:
    model = network(kind, torch.bfloat16)
    last = copy.deepcopy(model).to(memory_format=torch.channels_last)
    for layer in last.modules():
        if isinstance(layer, Conv2d):
            layer.register_forward_pre_hook(lambda _, x: (x[0].contiguous(memory_format=torch.channels_last),))
            layer.way = product if layer.kernel_size == (1, 1) and layer.in_channels >= 16 else None
        if isinstance(layer, Linear):
            layer.register_forward_pre_hook(lambda _, x: (x[0].contiguous(),))
        if isinstance(layer, GEGLU):
            layer.way = gated
    cpu.put_into(model)
    for side in (16, 8, 24):
        assert torch.equal(run(model, side), run(last, side))
    assert len(packed(model)) > 10
    assert run(model).is_contiguous()


@pytest.mark.parametrize("kind", ["sd15", "sd21", "vae"])
def test_weights_that_are_never_packed_have_the_same_bits(kind: str, dtype: torch.dtype) -> None:
    model, never = network(kind, dtype), network(kind, dtype)
    cpu.put_into(model)
    cpu.put_into(never, patience=1000)
    for side in (16, 8, 24, 16):
        assert torch.equal(run(model, side), run(never, side))
    assert len(packed(model)) > 10
    assert not packed(never)


def test_pictures_lie_with_their_channels_last_within_and_as_everybody_lays_them_without(dtype: torch.dtype) -> None:
    model = network("sd15", dtype)
    cpu.put_into(model)
    x = torch.randn(2, 4, 16, 16).to(dtype)
    assert model.conv_in(x).is_contiguous(memory_format=torch.channels_last)
    assert run(model).is_contiguous()


def test_what_does_not_fit_a_layer_is_told_by_torch_and_single_pictures_are_taken() -> None:
    """oneDNN has no words for it, and would compute on numbers of two precisions."""
    model = network("sd15", torch.float32)
    cpu.put_into(model)
    run(model)
    conv, linear = model.mid_block.resnets[0].conv1, model.mid_block.attentions[0].transformer_blocks[0].attn1.to_q
    assert {conv, linear} < set(packed(model))
    for layer, x in ((conv, torch.randn(1, conv.in_channels, 8, 8)), (linear, torch.randn(20, linear.in_features))):
        with pytest.raises(RuntimeError, match=r"same|dtype"):
            layer(x.bfloat16())
    x = torch.randn(conv.in_channels, 8, 8)
    torch.testing.assert_close(conv(x), conv(x[None])[0])


def test_a_weight_that_is_computed_is_taken_as_it_is() -> None:
    model = network("sd15", torch.float32)
    cpu.put_into(model)
    before = run(model)
    torch.nn.utils.parametrizations.weight_norm(model.mid_block.resnets[0].conv1)
    torch.testing.assert_close(run(model), before)


def test_who_turns_onednn_off_has_torchs_own_bits() -> None:
    model = network("sd15", torch.float32)
    torch._C._set_mkldnn_enabled(False)
    try:
        plainly = run(model)
        cpu.put_into(model)
        assert torch.equal(run(model), plainly)
    finally:
        torch._C._set_mkldnn_enabled(True)


@pytest.mark.parametrize("kind", ["sd15", "sd21", "vae"])
def test_float32_is_that_of_plain_layers_but_for_rounding(kind: str) -> None:
    model = network(kind, torch.float32)
    exact = run(copy.deepcopy(model).double())
    plainly = run(model)
    cpu.put_into(model)
    for _ in range(2):
        found = run(model)
        assert float((found - plainly).abs().max()) < 2e-5
        assert float((found - exact).norm()) < 4 * float((plainly - exact).norm())


def test_weights_are_packed_after_calls_that_were_asked_for_and_change_no_bit(dtype: torch.dtype) -> None:
    model = network("sd15", dtype)
    cpu.put_into(model, patience=2)
    first = run(model)
    for _ in range(2):
        assert not packed(model)
        assert torch.equal(run(model), first)
    assert packed(model)
    model.state_dict()
    run(model)
    assert not packed(model), "weights that were looked at are packed as at first"


@needs_bf16
@pytest.mark.parametrize("rows", [3, FEWEST_ROWS, 200])
def test_a_gated_layer_is_nearer_to_float32_than_one_that_rounds_between(rows: int) -> None:
    torch.manual_seed(0)
    layer = GEGLU(64, 96, plain.Ops()).bfloat16().requires_grad_(False)
    x = torch.randn(rows, 64).bfloat16()
    exact, plainly = copy.deepcopy(layer).float()(x.float()), layer(x)
    model: Model[None] = Model(None)
    model.add_module("layer", layer)
    cpu.put_into(model)
    ours = layer(x)
    assert (ours.float() - exact).norm() < (plainly.float() - exact).norm()
    assert len(packed(layer)) == (rows >= FEWEST_ROWS)


def test_what_stands_in_for_a_projection_or_watches_it_is_called(dtype: torch.dtype) -> None:
    model = network("sd15", dtype)
    cpu.put_into(model)
    gate = next(m for m in model.modules() if isinstance(m, GEGLU))
    x = torch.randn(20, gate.proj.in_features).to(dtype)
    usual = gate(x)
    with torch.no_grad():
        hook = gate.proj.register_forward_hook(lambda _, __, y: 2 * y)
        assert not torch.equal(gate(x), usual)
        hook.remove()
    assert torch.equal(gate(x), usual)
    gate.proj = nn.Sequential(gate.proj)
    assert gate(x).shape == usual.shape


@needs_bf16
def test_a_network_in_float32_computes_under_autocast() -> None:
    model = network("sd15", torch.float32)
    cpu.put_into(model)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.isfinite(run(model)).all()


def test_a_convolution_of_single_places_is_packed_for_all_sizes(dtype: torch.dtype) -> None:
    """As a convolution its weight was laid out anew at each call of another size."""
    model = network("sd15", dtype)
    cpu.put_into(model)
    run(model, 16)
    layer = model.down_blocks[0].attentions[0].proj_in
    assert layer.kernel_size == (1, 1)
    weights = layer._parameters
    assert isinstance(weights, Weights)
    held = weights.packed
    assert held is not None
    assert len(held[0].shape) == 2
    run(model, 24)
    assert weights.packed is held
    assert layer.weight.shape == (layer.out_channels, layer.in_channels, 1, 1)


def _saved(model: Any) -> dict[str, Tensor]:
    return dict(model.named_parameters())


def _copied(model: Any) -> dict[str, Tensor]:
    return copy.deepcopy(model).state_dict()


def _pickled(model: Any) -> dict[str, Tensor]:
    return {
        name: pickle.loads(pickle.dumps(layer._parameters))["weight"]
        for name, layer in model.named_modules()
        if "weight" in layer._parameters
    }


def _attributes(model: Any) -> dict[str, Tensor]:
    return {
        f"{name}.weight": layer.weight for name, layer in model.named_modules() if isinstance(layer, Conv2d | Linear)
    }


def _as_float64(model: Any) -> dict[str, Tensor]:
    return {
        name: tensor.to(model.dtype) for name, tensor in copy.deepcopy(model).to(torch.float64).state_dict().items()
    }


def _merged(model: Any) -> dict[str, Tensor]:
    return {
        f"{name}.{leaf}": tensor
        for name, layer in model.named_modules()
        for leaf, tensor in {**layer._parameters}.items()
    }


@pytest.mark.parametrize("look", [_saved, _copied, _attributes, _as_float64, _merged, lambda model: model.state_dict()])
def test_whoever_looks_at_packed_weights_finds_them_as_they_were(
    look: Callable[[Any], dict[str, Tensor]], dtype: torch.dtype
) -> None:
    model = network("sd15", dtype)
    before = bits(model)
    cpu.put_into(model)
    result = run(model)
    assert packed(model)
    found = {name: tensor for name, tensor in look(model).items() if tensor is not None}
    assert len(found) > 20
    assert all(torch.equal(tensor, before[name]) for name, tensor in found.items())
    assert list(model.state_dict()) == list(before)
    del found
    assert torch.equal(run(model), result)


def test_what_is_written_into_weights_counts_and_is_undone_to_the_bit(dtype: torch.dtype) -> None:
    model = network("sd15", dtype)
    cpu.put_into(model)
    before = run(model)
    layer = model.mid_block.resnets[0].conv1
    assert layer in packed(model)
    kept = layer.weight.clone()
    layer.weight.add_(1)
    assert not torch.equal(run(model), before)
    layer.weight.copy_(kept)
    assert torch.equal(run(model), before)
    layer.weight = nn.Parameter(kept + 1, requires_grad=False)
    assert not torch.equal(run(model), before)


def test_weights_that_somebody_holds_stay_where_they_are(dtype: torch.dtype) -> None:
    model = network("sd15", dtype)
    cpu.put_into(model)
    before = run(model)
    layer = model.mid_block.resnets[0].conv1
    for held in (layer.weight, layer.weight.detach()[:1], model.state_dict()):
        assert torch.equal(run(model), before)
        assert layer not in packed(model)
        del held
    held = layer.weight
    run(model)
    held.add_(1)
    assert not torch.equal(run(model), before)


def test_fused_projections_and_shared_bytes_stay_shared(dtype: torch.dtype) -> None:
    model = network("sd15", dtype)
    cpu.put_into(model)
    before = run(model)
    fuse_qkv(model)
    fused = run(model)
    attention = model.mid_block.attentions[0].transformer_blocks[0].attn1
    assert attention.to_q not in packed(model)
    attention.to_q.weight.add_(1)
    assert not torch.equal(run(model), fused)
    attention.to_q.weight.sub_(1)
    unfuse_qkv(model)
    assert run(model).shape == before.shape
    tied = network("sd15", dtype)
    convs = [
        layer
        for layer in tied.modules()
        if isinstance(layer, Conv2d) and layer.weight.shape == tied.mid_block.resnets[0].conv1.weight.shape
    ]
    for conv in convs[1:]:
        conv.weight = nn.Parameter(convs[0].weight.data, requires_grad=False)
    cpu.put_into(tied)
    run(tied)
    assert len(convs) > 1
    assert not set(convs) & set(packed(tied))


def test_a_weight_is_there_once(dtype: torch.dtype) -> None:
    model = network("sd15", dtype)
    cpu.put_into(model)
    run(model)
    for layer in packed(model):
        assert dict.__getitem__(layer._parameters, "weight") is None
    for layer in packed(model):
        assert layer.weight is not None
        assert layer._parameters.packed is None


def test_gradients_and_taking_out_are_plain(dtype: torch.dtype) -> None:
    model = network("sd15", dtype)
    plain_result = run(model)
    cpu.put_into(model)
    run(model)
    with torch.enable_grad():
        assert torch.equal(run(model), plain_result)
    run(model)
    cpu.take_out(model)
    assert torch.equal(run(model), plain_result)
    assert model.ops == plain.Ops()


class Unpacked(TorchDispatchMode):
    """Counts the packed weights that are unpacked."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func is torch.ops.aten._to_dense.default
        return func(*args, **kwargs or {})


def test_changed_strengths_unpack_only_what_has_to_be_kept_and_have_the_bits_of_plain_weights(
    dtype: torch.dtype,
) -> None:
    """At the first strength the base is kept, and so unpacked; after it a weight is written over as a whole."""
    networks = [network("sd15", dtype), network("sd15", dtype)]
    cpu.put_into(networks[0])
    names = [name for name, layer in networks[1].named_modules() if name.endswith(("to_q", "proj_in", "conv1"))]
    assert len(names) > 6
    patches: dict[Module, Patch] = {}
    for name in names:
        shape = networks[1].get_submodule(name).weight.shape
        leaves = {"up": torch.randn(shape[0], 4), "down": torch.randn(4, *shape[1:])}
        patches["unet", name] = Patch(leaves)
    adapter = Adapter(Path("a"), patches, keys=0)
    mergings = [Merging({"unet": model}) for model in networks]
    unpacked: list[int] = []
    for strength in (0.5, 0.75, -0.25, 0.0):
        run(networks[0])
        wanted = dict.fromkeys(patches, ((adapter, strength),)) if strength else {}
        with Unpacked() as counted:
            mergings[0].apply(wanted)
        mergings[1].apply(wanted)
        unpacked.append(counted.count)
        found, expected = copy.deepcopy(networks[0]).state_dict(), networks[1].state_dict()
        assert all(torch.equal(tensor, expected[name]) for name, tensor in found.items())
    assert unpacked == [len(names), 0, 0, 0]
