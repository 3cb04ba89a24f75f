"""The short way of adding two factors is the formula, and stands for refusals as the long one does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sdedit_cli import StableDiffusionImg2ImgPipeline
from sdedit_cli.adapters.apply import Base, Parts, Workspace, add_changes, applied, written_by_rows
from sdedit_cli.adapters.deltas import is_product, weight_delta
from sdedit_cli.adapters.kinds.leaves import Scaling, is_finite
from sdedit_cli.adapters.lora import Adapter, Patch
from sdedit_cli.adapters.products import Products
from sdedit_cli.engine.merging import Merging
from sdedit_cli.errors import ModelError

MODULE = ("unet", "conv_in")
SHAPE = (6, 5, 3, 3)
RANK = 4


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def plain(seed: int = 0) -> dict[str, Tensor]:
    down, up = normal(RANK, *SHAPE[1:], seed=seed), normal(SHAPE[0], RANK, 1, 1, seed=seed + 1)
    return {"down": down, "up": up, "alpha": torch.tensor(2.0)}


def adapter(leaves: dict[str, Tensor], scaling: Scaling = Scaling()) -> Adapter:  # noqa: B008
    return Adapter(Path("style.safetensors"), {MODULE: Patch(leaves, scaling)}, len(leaves))


KINDS = {
    "factors": plain(2),
    "half precision": {name: leaf.half() for name, leaf in plain(3).items()},
    "magnitudes": {**plain(4), "dora_scale": normal(SHAPE[0], 1, 1, 1, seed=5).abs()},
    "whole": {"diff": normal(*SHAPE, seed=6)},
    "a middle factor": {
        "down": normal(RANK, SHAPE[1], 1, 1, seed=7),
        "up": normal(SHAPE[0], RANK, 1, 1, seed=8),
        "mid": normal(RANK, RANK, 3, 3, seed=9),
    },
}


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_any_mixture_in_any_layout_is_the_sum_of_changes_of_the_base(layout: torch.memory_format) -> None:
    """Kinds that look at the base see none of the others, whatever stands before them."""
    assert [name for name, leaves in KINDS.items() if is_product(leaves)] == ["factors", "half precision"]
    base = normal(*SHAPE, seed=10).contiguous(memory_format=layout)
    kept, scaling = base.clone(), Scaling(rank_stabilised=True)
    strengths = dict(zip(KINDS, (0.5, -1.0, 0.7, 2.0, 1.0), strict=True))
    parts: Parts = tuple((adapter(KINDS[name], scaling), strengths[name]) for name in KINDS)
    wanted = base.clone()
    for name, leaves in KINDS.items():
        delta = weight_delta(leaves, base, scaling)
        assert delta is not None
        wanted += strengths[name] * delta
    for order in (parts, parts[::-1]):
        made = applied(order, MODULE, "weight", base)
        assert made is not None
        torch.testing.assert_close(made, wanted, atol=1e-5, rtol=1e-5)
    assert torch.equal(base, kept)
    assert applied(parts, MODULE, "bias", torch.zeros(SHAPE[0])) is None


def test_a_product_that_is_not_finite_is_refused_and_a_base_that_is_not_is_nobodys_fault() -> None:
    huge = {"down": torch.full((RANK, *SHAPE[1:]), 1e30), "up": torch.full((SHAPE[0], RANK, 1, 1), 1e30)}
    with pytest.raises(ModelError, match=r"style.safetensors: what it adds to unet.conv_in is not finite"):
        add_changes(torch.zeros(SHAPE), ((adapter(huge), 1.0),), MODULE, "weight")
    base = torch.zeros(SHAPE)
    base[0, 0, 0, 0] = torch.inf
    assert not is_finite(add_changes(base, ((adapter(plain()), 1.0),), MODULE, "weight"))


def test_a_refusal_in_the_middle_gives_every_weight_back(pipe: StableDiffusionImg2ImgPipeline) -> None:
    """The second module of two overflows: the first was made already, and its own is half made."""
    unet = pipe.unet
    before = {name: tensor.clone() for name, tensor in unet.state_dict().items()}
    huge = [1.0, 1e30]
    patches = {}
    for name, size in zip(("time_embedding.linear_1", "time_embedding.linear_2"), huge, strict=True):
        out, into = unet.get_submodule(name).weight.shape
        patches["unet", name] = Patch({"down": torch.full((1, into), size), "up": torch.full((out, 1), size)})
    merging = Merging({"unet": unet})
    wrong = Adapter(Path("huge.safetensors"), patches, 4)
    merging.check(wrong)
    with pytest.raises(ModelError, match="not finite"):
        merging.apply(dict.fromkeys(patches, ((wrong, 1.0),)))
    assert all(torch.equal(tensor, before[name]) for name, tensor in unet.state_dict().items())
    fits = Adapter(Path("fits.safetensors"), {module: patches[module] for module in list(patches)[:1]}, 2)
    merging.apply(dict.fromkeys(fits.patches, ((fits, 1.0),)))
    assert not torch.equal(unet.time_embedding.linear_1.weight, before["time_embedding.linear_1.weight"])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_large_numbers_are_finite_and_a_single_one_that_is_not_tells(dtype: torch.dtype) -> None:
    tensor = torch.full((300, 7), torch.finfo(dtype).max, dtype=dtype)
    assert is_finite(tensor)  # though their sum is not
    for value in (torch.nan, torch.inf, -torch.inf):
        tensor[211, 3] = value
        assert not is_finite(tensor)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_row_by_row_a_weight_is_the_whole_one_rounded_once(dtype: torch.dtype, monkeypatch: Any) -> None:
    monkeypatch.setattr("sdedit_cli.adapters.apply._BLOCK", 2 * SHAPE[1] * 9, raising=True)  # two of the six rows
    base = normal(*SHAPE, seed=20).to(dtype)
    parts: Parts = ((adapter(plain(21)), 0.7), (adapter(plain(22)), -1.5))
    parameter = torch.empty_like(base)
    assert written_by_rows(parameter, Base(base), parts, MODULE, Workspace(Products()))
    whole = add_changes(base.float(), parts, MODULE, "weight")
    assert torch.equal(parameter, whole.to(dtype))


def test_row_by_row_other_kinds_misfits_and_overflow_go_the_long_way() -> None:
    base = normal(*SHAPE, seed=23).half()
    others = {name: leaves for name, leaves in KINDS.items() if not is_product(leaves)}
    assert len(others) == 3
    misfit = {**plain(24), "down": normal(RANK, 7)}
    huge = {**plain(25), "alpha": torch.tensor(1e9)}
    work = Workspace(Products())
    for leaves in (*others.values(), misfit, huge):
        assert not written_by_rows(torch.empty_like(base), Base(base), ((adapter(leaves), 1.0),), MODULE, work)
    # At strength 1, which is made first, even float32 does not hold it.
    huger: Parts = ((adapter({**plain(25), "alpha": torch.tensor(1e38), "up": plain(25)["up"] * 1e5}), 1e-12),)
    assert not written_by_rows(torch.empty(SHAPE), Base(base.float()), huger, MODULE, work)


def test_row_by_row_no_number_that_overflows_is_passed_over() -> None:
    """Whether numbers are looked at, bounds decide: of strengths up to where a half overflows, and of any base."""
    seen = {True: 0, False: 0}
    work = Workspace(Products())
    for seed in range(6):
        of = adapter(plain(seed))
        for base in (normal(*SHAPE, seed=seed), normal(*SHAPE, seed=seed) * 1e4, torch.full(SHAPE, torch.nan)):
            half = base.half()
            for strength in (0.5, -1e3, 1e4, -3e4, 1e7):
                parts: Parts = ((of, strength), (adapter(plain(9)), -strength / 3))
                wanted = is_finite(add_changes(half.float(), parts, MODULE, "weight").half())
                assert written_by_rows(torch.empty_like(half), Base(half), parts, MODULE, work) == wanted
                seen[wanted] += 1
        delta = weight_delta(plain(seed), normal(*SHAPE))
        assert delta is not None
        assert float(delta.abs().max()) <= of.patches[MODULE].reach
    assert sum(seen.values()) == 90
    assert min(seen.values()) > 20
