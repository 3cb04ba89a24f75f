"""Adapters go where a pipeline goes: other precisions, copies, offloading, fused projections, saved folders."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.loras import DIALECTS, Factors, factors, merged
from helpers.pipelines import picture
from torch import Tensor

from sdedit_cli import StableDiffusionImg2ImgPipeline

Pipe = StableDiffusionImg2ImgPipeline


def weights(pipe: Any) -> dict[str, Tensor]:
    slots = ("unet", "text_encoder")
    return {f"{slot}.{k}": v.clone() for slot in slots for k, v in getattr(pipe, slot).state_dict().items()}


def offloaded(pipe: Pipe) -> Pipe:
    pipe.enable_model_cpu_offload(device="cpu")
    return pipe


def used(pipe: Pipe) -> Pipe:
    """So often that layers keep their weights in another layout."""
    call = {"num_inference_steps": 10, "strength": 1.0, "output_type": "latent"}
    pipe("a cat", image=picture(), cross_attention_kwargs={"scale": 0.3}, **call)
    return pipe


def fused(pipe: Pipe) -> Pipe:
    pipe.fuse_qkv_projections()
    used(pipe)
    pipe.set_adapters(["a", "b"], [1.0, 1.0])
    pipe.unfuse_qkv_projections()
    return pipe


MOVES: dict[str, Callable[[Pipe], Pipe]] = {
    "to": lambda pipe: pipe,
    "deepcopy": copy.deepcopy,
    "pickle": lambda pipe: pickle.loads(pickle.dumps(pipe)),
    "offload": offloaded,
    "used": used,
    "used and copied": lambda pipe: copy.deepcopy(used(pipe)),
    "fused": fused,
}


# Networks in float16 are slow on CPUs: it goes where nothing is computed.
CASES = [(dtype, move) for dtype in (torch.float32, torch.bfloat16) for move in MOVES]
CASES += [(torch.float16, move) for move in ("to", "deepcopy", "pickle", "offload")]


@pytest.mark.parametrize(("dtype", "move"), CASES, ids=str)
def test_strengths_change_and_the_base_comes_back_after_a_move(dtype: torch.dtype, move: str, folder: Path) -> None:
    """Loaded in float32, so that what is kept of the base has another precision than the weights."""
    pipe = Pipe.from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    base = weights(pipe)
    of = {name: factors(pipe, seed=seed) for seed, name in enumerate("ab")}
    for name, own in of.items():
        pipe.load_lora_weights(DIALECTS["kohya"](pipe, own), name)
    before = pipe.to(dtype)
    pipe = MOVES[move](pipe)
    for strengths in ([0.5, 1.0], [-1.0, 0.0], [2.0, 0.25]):
        pipe.set_adapters(["a", "b"], strengths)
        wanted = made_of(base, of, strengths)
        found = weights(pipe)
        assert {tensor.dtype for tensor in found.values()} == {dtype}
        close = {"atol": 1e-5} if dtype == torch.float32 else {"atol": 1e-4, "rtol": torch.finfo(dtype).eps}
        assert [key for key in base if not torch.allclose(found[key].float(), wanted[key], **close)] == []
    for one in {id(p): p for p in (pipe, before)}.values():
        one.unload_lora_weights()
        found = weights(one)
        assert [key for key in base if not torch.equal(found[key], base[key].to(dtype))] == []


def made_of(base: dict[str, Tensor], of: dict[str, Factors], strengths: list[float]) -> dict[str, Tensor]:
    wanted = dict(base)
    for own, strength in zip(of.values(), strengths, strict=True):
        for (slot, name), factors_ in own.items():
            key = f"{slot}.{name}.weight"
            wanted[key] = merged(wanted[key], *factors_, strength)
    return wanted


def test_a_saved_folder_is_the_base_in_every_precision(folder: Path, tmp_path: Path) -> None:
    pipe = Pipe.from_pretrained(folder)
    base = weights(pipe)
    pipe.load_lora_weights(DIALECTS["kohya"](pipe, factors(pipe)), "a")
    pipe.to(torch.bfloat16)
    pipe.set_adapters("a", 0.5)
    pipe.save_pretrained(tmp_path)
    saved = weights(Pipe.from_pretrained(tmp_path, torch_dtype=torch.bfloat16))
    assert [key for key in base if not torch.equal(saved[key], base[key].to(torch.bfloat16))] == []


@pytest.mark.parametrize("move", ["deepcopy", "pickle"])
def test_what_is_fused_of_several_keeps_the_others_aside_in_a_copy(move: str, folder: Path) -> None:
    """One that was not fused is not at work on the layers of one that is, until that is unfused."""
    pipe = Pipe.from_pretrained(folder)
    for seed, name in enumerate("ab"):
        pipe.load_lora_weights(DIALECTS["kohya"](pipe, factors(pipe, seed=seed)), name)
    pipe.set_adapters(["a", "b"])
    both = weights(pipe)
    pipe.fuse_lora(adapter_names=["a"])
    alone = weights(pipe)
    assert any(not torch.equal(alone[key], both[key]) for key in both)
    copied = MOVES[move](pipe)
    copied.disable_lora()
    copied.enable_lora()
    found = weights(copied)
    assert [key for key in alone if not torch.equal(found[key], alone[key])] == []
    copied.unfuse_lora()
    found = weights(copied)
    assert [key for key in both if not torch.equal(found[key], both[key])] == []
