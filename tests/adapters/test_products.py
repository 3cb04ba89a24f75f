"""Products that are kept for the next strength: the weights have no history, and memory comes back."""

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
from sdedit_cli.errors import ModelError

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
        at((large, -2.0), (larger, 1.0)),
        at((small, 1.0), (large, -1.0), (larger, 0.25)),
        at((small, 0.3), (larger, 0.75)),
        at((small, 0.7), (larger, 0.5)),
        at((large, 0.5), (larger, 0.5)),
        {},
    ):
        used.apply(wanted, (large, larger, small))
        fresh = Merging({"unet": copy.deepcopy(base)})
        fresh.apply(wanted)
        found = used.networks["unet"].state_dict()
        for name, tensor in fresh.networks["unet"].state_dict().items():
            assert torch.equal(found[name], tensor), (name, wanted)
        assert not fresh.products.kept
        kept.append(len(used.products.kept))
    assert kept == [3, 3, 6, 6, 6, 6, 6, 6]
    assert all(torch.equal(tensor, before[name]) for name, tensor in used.networks["unet"].state_dict().items())


def test_nothing_is_kept_where_memory_is_short_of_four_times_as_much(
    unet: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    of = adapter(unet, 64, 0)
    size = 4 * sum(unet.get_submodule(name).weight.numel() for name in NAMES)
    for free, count in ((0, 0), (4 * size, 0), (4 * size + 4, 3)):
        monkeypatch.setattr(merging, "free_memory", lambda free=free: free)
        used = Merging({"unet": copy.deepcopy(unet)})
        used.apply(at((of, 1.0)), (of,))
        assert len(used.products.kept) == count


def test_copies_and_pickles_begin_without_products(unet: Any) -> None:
    of, used = adapter(unet, 64, 0), Merging({"unet": unet})
    used.apply(at((of, 1.0)), (of,))
    assert used.products.kept
    for other in (copy.deepcopy(used), pickle.loads(pickle.dumps(used))):
        assert not other.products.kept
        other.apply({})
        assert not other.now


def test_what_is_kept_already_counts(unet: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that is kept is a quarter of what was free before any of it."""
    size = 4 * sum(unet.get_submodule(name).weight.numel() for name in NAMES)
    adapters = [adapter(unet, 64, seed) for seed in range(3)]
    used = Merging({"unet": unet})
    monkeypatch.setattr(merging, "free_memory", lambda: 8 * size + 4 - used.products.nbytes)
    for count in (1, 2, 3):
        used.apply(at(*((of, 1.0) for of in adapters[:count])), adapters[:count])
    assert {of for of, _ in used.products.kept} == set(adapters[:2])


def test_products_are_kept_of_those_alone_whose_strengths_change(unet: Any) -> None:
    """At work or not."""
    of, other = adapter(unet, 64, 0), adapter(unet, 64, 1)
    used = Merging({"unet": unet})
    used.apply(at((of, 1.0), (other, 1.0)), (of,))
    assert {kept for kept, _ in used.products.kept} == {of}
    used.apply({}, (of, other))
    assert {kept for kept, _ in used.products.kept} == {of}
    used.apply({}, (other,))
    assert not used.products.kept


def test_what_was_kept_for_a_change_that_failed_is_let_go_of(unet: Any) -> None:
    of, wrong = adapter(unet, 64, 0), adapter(unet, 64, 1)
    used = Merging({"unet": unet})
    used.apply(at((of, 1.0)), (of,))
    wrong.patches["unet", NAMES[-1]].leaves["up"].fill_(torch.finfo(torch.float32).max)
    with pytest.raises(ModelError, match="not finite"):
        used.apply(at((of, 0.5), (wrong, 1.0)), (of, wrong))
    assert {kept for kept, _ in used.products.kept} == {of}


def test_what_an_adapter_makes_is_kept_for_who_may_change_it(pipe: StableDiffusionImg2ImgPipeline) -> None:
    """From its load on, for as long as it is loaded; of what is fused alone, which stays as it is, nothing."""
    ranks = {"a": 64, "b": 64, "c": 63}

    def load(name: str, rank: int) -> None:
        leaves = {
            f"lora_unet_{module.replace('.', '_')}.lora_{leaf}.weight": tensor
            for (_, module), patch in adapter(pipe.unet, rank, 0).patches.items()
            for leaf, tensor in patch.leaves.items()
        }
        pipe.load_lora_weights(leaves, adapter_name=name)

    for name, rank in ranks.items():
        load(name, rank)
    products = pipe._merger().products
    assert len(products.kept) == 2 * len(NAMES)
    pipe.disable_lora()
    pipe.delete_adapters("a")
    assert len(products.kept) == len(NAMES)
    pipe.enable_lora()
    pipe.set_adapters("b", 0.5)
    pipe.fuse_lora()
    pipe.unload_lora_weights()
    assert not products.kept
    load("small", 4)
    assert not products.kept
    assert pipe.fused_loras == {"b"}


def test_a_base_that_was_taken_in_another_layout_leaves_no_trace(unet: Any) -> None:
    of, fresh = adapter(unet, 64, 0), copy.deepcopy(unet)
    used = Merging({"unet": unet.to(memory_format=torch.channels_last)})
    used.apply(at((of, 1.0)), (of,))
    unet.to(memory_format=torch.contiguous_format)
    for strength in (0.5, 0.3):
        used.apply(at((of, strength)), (of,))
    Merging({"unet": fresh}).apply(at((of, 0.3)))
    assert len(used.products.kept) == len(NAMES)
    assert all(torch.equal(tensor, unet.state_dict()[name]) for name, tensor in fresh.state_dict().items())
