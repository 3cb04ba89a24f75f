"""Products that are kept from one strength to the next: the weights have no history, and memory comes back."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from sdedit_cli import StableDiffusionImg2ImgPipeline
from sdedit_cli.adapters.lora import Adapter, Patch
from sdedit_cli.engine import merging
from sdedit_cli.engine.merging import Merging

NAMES = ("time_embedding.linear_1", "conv_in", "down_blocks.0.resnets.0.conv1")
DTYPES = (torch.float32, torch.bfloat16, torch.float16)


@pytest.fixture
def unet(pipe: StableDiffusionImg2ImgPipeline) -> Any:
    return pipe.unet


@pytest.fixture(autouse=True)
def _memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merging, "free_memory", lambda: 1 << 40)


def adapter(unet: Any, rank: int, seed: int) -> Adapter:
    draw = torch.Generator().manual_seed(seed)
    patches: dict[tuple[str, str], Patch] = {}
    for name in NAMES:
        out, *into = unet.get_submodule(name).weight.shape
        down = torch.randn(rank, *into, generator=draw)
        up = torch.randn(out, rank, *[1] * (len(into) - 1), generator=draw) / rank
        patches["unet", name] = Patch({"down": down, "up": up})
    return Adapter(Path(f"{rank}.safetensors"), patches, 2 * len(NAMES))


def at(*strengths: tuple[Adapter, float]) -> dict[Any, Any]:
    return {("unet", name): strengths for name in NAMES}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("block", [1 << 21, 200])
def test_what_a_weight_becomes_says_nothing_of_what_it_was(
    unet: Any, dtype: torch.dtype, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Strengths in any order, of adapters whose products are kept and others, beside a network that never saw them."""
    monkeypatch.setattr("sdedit_cli.adapters.apply._BLOCK", block)
    base = unet.to(dtype)
    large, larger, small = adapter(unet, 64, 0), adapter(unet, 128, 1), adapter(unet, 4, 2)
    used = Merging({"unet": copy.deepcopy(base)})
    before, kept = base.state_dict(), []
    for wanted in (
        at((large, 1.0)),
        at((large, 0.5)),
        at((large, 0.7)),
        at((large, -2.0), (larger, 1.0)),
        at((small, 1.0), (large, -1.0), (larger, 0.25)),
        at((small, 0.3), (larger, 0.75)),
        at((small, 0.7), (larger, 0.5)),
        at((large, 0.5), (larger, 0.5)),
        {},
    ):
        used.apply(wanted)
        fresh = Merging({"unet": copy.deepcopy(base)})
        fresh.apply(wanted)
        found = used.networks["unet"].state_dict()
        for name, tensor in fresh.networks["unet"].state_dict().items():
            assert torch.equal(found[name], tensor), (name, wanted)
        assert not fresh.products.kept
        kept.append(len(used.products.kept))
    assert kept == [0, 0, 3, 3, 3, 3, 3, 3, 0]
    assert all(torch.equal(tensor, before[name]) for name, tensor in used.networks["unet"].state_dict().items())


def test_nothing_is_kept_where_memory_is_short_of_four_times_as_much(
    unet: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    of = adapter(unet, 64, 0)
    size = 4 * sum(unet.get_submodule(name).weight.numel() for name in NAMES)
    for free, count in ((0, 0), (4 * size, 0), (4 * size + 4, 3)):
        monkeypatch.setattr(merging, "free_memory", lambda free=free: free)
        used = Merging({"unet": copy.deepcopy(unet)})
        for strength in (1.0, 0.5, 0.7):
            used.apply(at((of, strength)))
        assert len(used.products.kept) == count


def test_copies_and_pickles_begin_without_products(unet: Any) -> None:
    of, used = adapter(unet, 64, 0), Merging({"unet": unet})
    for strength in (1.0, 0.5, 0.7):
        used.apply(at((of, strength)))
    assert used.products.kept
    for other in (copy.deepcopy(used), pickle.loads(pickle.dumps(used))):
        assert not other.products.kept
        other.apply({})
        assert not other.now


@pytest.mark.parametrize(
    ("strengths", "kept"),
    [
        ("1", "0"),
        ("1 .5", "00"),
        ("1 1 .5 .5 .5", "00000"),
        ("1 .5 1", "000"),  # one call at another strength
        ("1 .5 1 .5", "0003"),
        ("1 .5 .7", "003"),
        ("1 .5 0 .5 .7", "00000"),  # not at work between
    ],
)
def test_kept_is_what_is_likely_to_be_needed_again(unet: Any, strengths: str, kept: str) -> None:
    of, used = adapter(unet, 64, 0), Merging({"unet": unet})
    found = ""
    for strength in map(float, strengths.split()):
        used.apply(at((of, strength)) if strength else {})
        found += str(len(used.products.kept))
    assert found == kept


def test_a_base_that_was_taken_in_another_layout_leaves_no_trace(unet: Any) -> None:
    of, fresh = adapter(unet, 64, 0), copy.deepcopy(unet)
    used = Merging({"unet": unet.to(memory_format=torch.channels_last)})
    used.apply(at((of, 1.0)))
    unet.to(memory_format=torch.contiguous_format)
    for strength in (0.5, 0.7, 0.3):
        used.apply(at((of, strength)))
    Merging({"unet": fresh}).apply(at((of, 0.3)))
    assert len(used.products.kept) == len(NAMES)
    assert all(torch.equal(tensor, unet.state_dict()[name]) for name, tensor in fresh.state_dict().items())
