"""Filling modules: zero copy or one cast, old names, and misfits that are named."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers.weights import TinyNet, meta_net
from safetensors.torch import save_file
from torch import Tensor, nn

from sdedit_cli.errors import ModelError
from sdedit_cli.weights import MemorySource, fill, materialize, open_weights


def state() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return {name: t.clone() for name, t in TinyNet().state_dict().items()}


def test_fill_without_a_cast_maps_the_file_and_reports_names(tmp_path: Path) -> None:
    save_file(state(), tmp_path / "f")
    source = open_weights(tmp_path / "f")
    net = meta_net()
    report = fill(net, source)
    assert set(report.used) == set(state())
    assert report.unused == report.missing == ()
    assert all(torch.equal(net.state_dict()[name], tensor) for name, tensor in state().items())
    assert not any(p.requires_grad for p in net.parameters())
    net.linear.weight.zero_()
    assert torch.equal(source.get("linear.weight"), state()["linear.weight"])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_fill_casts_floating_tensors_only(dtype: torch.dtype) -> None:
    net = meta_net()
    fill(net, MemorySource(state()), dtype)
    assert net.linear.weight.dtype == dtype
    assert net.norm.num_batches_tracked.dtype == torch.int64
    assert torch.equal(net.linear.weight, state()["linear.weight"].to(dtype))


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_every_half_is_cast_as_torch_casts_it(
    dtype: torch.dtype, threads: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Casts go by pieces, on several threads; five times over, the values fill several pieces and end within one."""
    halves = torch.arange(2**16).to(torch.int16).view(torch.float16).repeat(5)[:-7]
    wanted = {f"{i}.weight": halves.roll(i)[None] for i in range(4)}
    save_file(wanted, tmp_path / "f")
    with torch.device("meta"):
        net = nn.Sequential(*(nn.Linear(halves.numel(), 1, bias=False) for _ in wanted))
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    fill(net, open_weights(tmp_path / "f"), dtype)
    for name, tensor in net.state_dict().items():
        torch.testing.assert_close(tensor, wanted[name].to(dtype), rtol=0, atol=0, equal_nan=True)


def test_missing_and_left_over_tensors_are_listed_and_counted() -> None:
    tensors = state() | {f"extra.{i}": torch.ones(1) for i in range(7)}
    del tensors["linear.bias"]
    with pytest.raises(ModelError) as error:
        fill(meta_net(), MemorySource(tensors))
    assert "1 tensors are missing (linear.bias)" in str(error.value)
    assert "7 tensors are not known (extra.0, extra.1, extra.2, extra.3, extra.4 and 2 more)" in str(error.value)
    net = meta_net()
    report = fill(net, MemorySource(tensors), partial=True)
    assert report.missing == ("linear.bias",)
    assert len(report.unused) == 7
    assert torch.equal(net.linear.bias, torch.zeros(3))


def test_a_wrong_shape_names_the_tensor_both_shapes_and_the_config() -> None:
    tensors = state() | {"linear.weight": torch.ones(3, 5)}
    with pytest.raises(
        ModelError, match=r"'linear.weight' has the shape \[3, 5\], but unet/config.json asks for \[3, 4\]"
    ):
        fill(meta_net(), MemorySource(tensors), config="unet/config.json")


def test_linears_and_1x1_convolutions_hold_the_same_numbers() -> None:
    tensors = state()
    tensors["linear.weight"] = tensors["linear.weight"][:, :, None, None]
    tensors["conv.weight"] = tensors["conv.weight"][:, :, 0, 0]
    net = meta_net()
    fill(net, MemorySource(tensors))
    assert torch.equal(net.linear.weight, state()["linear.weight"])
    assert torch.equal(net.conv.weight, state()["conv.weight"])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("mid.attentions.0.query.weight", "mid.attentions.0.to_q.weight"),
        ("mid.attentions.0.proj_attn.bias", "mid.attentions.0.to_out.0.bias"),
        ("encoder.layers.0.mlp.fc1.weight", "text_model.encoder.layers.0.mlp.fc1.weight"),
        ("_orig_mod.conv_in.weight", "conv_in.weight"),
    ],
)
def test_old_names_are_understood(old: str, new: str) -> None:
    from sdedit_cli.names.older import module_name

    assert module_name(old, {new}) == new
    assert module_name(new, {new}) == new


def test_rename_maps_and_leaves_out() -> None:
    tensors = {f"net.{name}": t for name, t in state().items()} | {"optimizer": torch.ones(1)}
    names = {f"net.{name}": name for name in state()}
    assert len(fill(meta_net(), MemorySource(tensors), rename=names.get).used) == len(state())


def test_two_names_for_one_place_are_refused() -> None:
    tensors = state() | {"module.linear.weight": torch.ones(3, 4)}
    with pytest.raises(ModelError, match=r"are both 'linear.weight'"):
        fill(meta_net(), MemorySource(tensors), rename=lambda name: name.removeprefix("module."))


def test_materialize_adds_deltas_in_float32_and_rounds_once() -> None:
    base = torch.full((4,), 1.0, dtype=torch.bfloat16)
    tiny = torch.full((4,), 2.0**-9)
    source = MemorySource({"w": base})
    once = materialize(source.get("w"), torch.bfloat16, [tiny, lambda weight: weight * 2.0**-9, tiny, tiny])
    assert torch.equal(once, torch.full((4,), 1 + 2.0**-7, dtype=torch.bfloat16))
    assert torch.equal(source.get("w"), torch.ones(4, dtype=torch.bfloat16))
    own = materialize(source.get("w"))
    own.zero_()
    assert torch.equal(source.get("w"), torch.ones(4, dtype=torch.bfloat16))


PEAK = """
import sys, torch
from torch import nn
from sdedit_cli.weights import fill, open_weights

def memory(field):
    return 1024 * int(next(line.split()[1] for line in open("/proc/self/status") if line.startswith(field)))

with torch.device("meta"):
    net = nn.Sequential(*(nn.Linear(1024, 2048, bias=False) for _ in range(32)))
before = memory("VmRSS")
fill(net, open_weights(sys.argv[1]), getattr(torch, sys.argv[2]))
total = sum(float(p.sum()) for p in net.parameters())
print((memory("VmHWM") - before) / sum(p.nbytes for p in net.parameters()))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
@pytest.mark.parametrize(("dtype", "most"), [("float16", 1.1), ("bfloat16", 1.3), ("float32", 1.3)])
def test_a_load_holds_the_weights_once(dtype: str, most: float, tmp_path: Path) -> None:
    """Neither the file nor a copy of it stays in memory beside the parameters, whatever the cast."""
    save_file({f"{i}.weight": torch.zeros(2048, 1024).half() for i in range(32)}, tmp_path / "f")
    command = [sys.executable, "-c", PEAK, str(tmp_path / "f"), dtype]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert float(out) <= most


def test_whole_numbers_in_the_place_of_floats_are_refused_by_name() -> None:
    """Quantised checkpoints keep shapes and names."""
    state = {name: tensor.clone() for name, tensor in TinyNet().state_dict().items()}
    state["conv.weight"] = state["conv.weight"].to(torch.int8)
    with pytest.raises(ModelError, match=r"'conv\.weight' holds int8 numbers"):
        fill(meta_net(), MemorySource(state))


def test_a_cast_in_inference_mode_spoils_no_later_one() -> None:
    half = torch.tensor([1.0, 2.5]).half()
    with torch.inference_mode():
        materialize(half, torch.bfloat16)
    assert torch.equal(materialize(half, torch.bfloat16), half.bfloat16())


@pytest.mark.parametrize("dtype", [None, torch.bfloat16], ids=str)
def test_what_is_loaded_in_inference_mode_can_be_written_to_outside_of_it(
    dtype: torch.dtype | None, tmp_path: Path
) -> None:
    """By adapters, which may come later."""
    save_file(state(), tmp_path / "f")
    net = meta_net()
    with torch.inference_mode():
        fill(net, open_weights(tmp_path / "f"), dtype)
    assert not [name for name, tensor in net.state_dict().items() if tensor.is_inference()]
