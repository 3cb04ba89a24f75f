"""Bases of layers that adapters change: in the memory that they were in, without a trace for who sees it too."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

from sdedit_cli import StableDiffusionImg2ImgPipeline
from sdedit_cli.adapters.lora import Adapter, Patch
from sdedit_cli.engine.merging import Merging
from sdedit_cli.nn.fuse import fuse_qkv

NAME = "time_embedding.linear_1"
OTHER = "time_embedding.linear_2"
ATTENTION = "mid_block.attentions.0.transformer_blocks.0.attn1"


@pytest.fixture
def unet(pipe: StableDiffusionImg2ImgPipeline) -> Any:
    return pipe.unet


def adapter(unet: Any, *names: str) -> Adapter:
    patches: dict[tuple[str, str], Patch] = {}
    for name in names:
        out, *into = unet.get_submodule(name).weight.shape
        patches["unet", name] = Patch({"down": torch.ones(1, *into), "up": torch.ones(out, 1, *[1] * len(into[1:]))})
    return Adapter(Path("style.safetensors"), patches, 2 * len(names))


def at(of: Adapter, strength: float) -> dict[Any, Any]:
    return dict.fromkeys(of.patches, ((of, strength),))


def test_a_base_stays_where_it_was_and_is_not_copied(unet: Any) -> None:
    """A checkpoint's file that is mapped would be copied by its pages."""
    of, merging = adapter(unet, NAME), Merging({"unet": unet})
    weight = unet.get_submodule(NAME).weight
    place, plain = weight.data_ptr(), weight.clone()
    merging.apply(at(of, 0.5))
    made = weight.data_ptr()
    merging.apply(at(of, 1.0))
    assert made != place
    assert weight.data_ptr() == made
    torch.testing.assert_close(weight, plain + 1.0)
    merging.apply({})
    assert weight is unet.get_submodule(NAME).weight
    assert weight.data_ptr() == place
    assert torch.equal(weight, plain)


@pytest.mark.parametrize("look", [lambda w: w.data, lambda w: w[:1], lambda w: w.detach().numpy()])
@pytest.mark.parametrize("when", ["before", "while it is at work"])
def test_who_sees_a_weight_by_another_tensor_sees_what_becomes_of_it(unet: Any, look: Any, when: str) -> None:
    of, merging = adapter(unet, NAME), Merging({"unet": unet})
    weight = unet.get_submodule(NAME).weight
    plain = weight.clone()
    seen = look(weight) if when == "before" else None
    merging.apply(at(of, 1.0))
    seen = look(weight) if seen is None else seen
    for strength in (0.5, 0.0):
        merging.apply(at(of, strength) if strength else {})
        torch.testing.assert_close(torch.as_tensor(seen), (plain + strength)[: len(seen)])
    assert torch.equal(weight, plain)


@pytest.mark.parametrize(
    "made",
    [
        lambda unet: unet,
        lambda unet: unet.to(torch.float64),
        copy.deepcopy,
        lambda unet: fuse_qkv(unet) or unet,
        lambda unet: fuse_qkv(unet) or unet.to(torch.float64),
    ],
    ids=["as it is", "in another precision", "a copy", "fused", "fused in another precision"],
)
@pytest.mark.parametrize("modes", [(True, False, True), (False, True, False), (True, True, True)])
def test_what_is_made_in_inference_mode_can_be_made_anew_outside_of_it(
    unet: Any, made: Any, modes: tuple[bool, ...]
) -> None:
    with torch.inference_mode():
        unet = made(unet)
    names = NAME, f"{ATTENTION}.to_q"
    of, merging = adapter(unet, *names), Merging({"unet": unet})
    plain = [unet.get_submodule(name).weight.clone() for name in names]
    for mode, strength in zip(modes, (1.0, 0.5, 0.0), strict=True):
        with torch.inference_mode(mode):
            merging.apply(at(of, strength) if strength else {})
        for name, before in zip(names, plain, strict=True):
            torch.testing.assert_close(unet.get_submodule(name).weight, before + strength)
    assert all(torch.equal(unet.get_submodule(name).weight, w) for name, w in zip(names, plain, strict=True))
    attention = unet.get_submodule(ATTENTION)
    if attention._joint:
        assert attention._joint[0].data_ptr() == attention.to_q.weight.data_ptr()


def test_a_weight_in_another_layout_stays_in_it(unet: Any) -> None:
    """What a script lays out while an adapter is at work."""
    of, merging = adapter(unet, "conv_in"), Merging({"unet": unet})
    plain = unet.conv_in.weight.clone()
    merging.apply(at(of, 1.0))
    unet.to(memory_format=torch.channels_last)
    merging.apply({})
    assert unet.conv_in.weight.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(unet.conv_in.weight, plain)


def test_a_weight_that_other_processes_see_stays_where_they_see_it(unet: Any) -> None:
    of, merging = adapter(unet, NAME), Merging({"unet": unet.share_memory()})
    weight = unet.get_submodule(NAME).weight
    place, plain = weight.data_ptr(), weight.clone()
    for strength in (1.0, 0.0):
        merging.apply(at(of, strength) if strength else {})
        assert weight.is_shared()
        assert weight.data_ptr() == place
        torch.testing.assert_close(weight, plain + strength)


def test_a_signal_between_a_base_and_new_memory_for_the_weight_loses_nothing(
    unet: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    of, merging = adapter(unet, NAME, OTHER), Merging({"unet": unet})
    plain = {name: unet.get_submodule(name).weight.clone() for name in (NAME, OTHER)}

    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    # Alone, and where what was before cannot be had back either.
    for lost in ("torch.empty_like",), ("torch.empty_like", "sdedit_cli.engine.merging._put_back"):
        with monkeypatch.context() as patched:
            for name in lost:
                patched.setattr(name, interrupted)
            with pytest.raises(KeyboardInterrupt):
                merging.apply(at(of, 1.0))
        assert all(torch.equal(unet.get_submodule(name).weight, tensor) for name, tensor in plain.items())
    merging.apply(at(of, 1.0))  # into memory that is not the base's
    assert all(torch.equal(unet.get_submodule(name).weight, tensor + 1) for name, tensor in plain.items())
    merging.apply({})
    assert all(torch.equal(unet.get_submodule(name).weight, tensor) for name, tensor in plain.items())
