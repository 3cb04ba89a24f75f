"""Attention a head at a time, for CPUs that multiply in bfloat16 without a matrix unit, against float64 and torch's."""

from __future__ import annotations

import importlib
from dataclasses import replace
from typing import Any

import pytest
import torch
from helpers.packing import needs_bf16, needs_widening
from helpers.tiny.networks import tiny_unet
from torch import Tensor

from sdedit_cli import StableDiffusionImg2ImgPipeline
from sdedit_cli.configs.model_block import STARTER_FOLDER
from sdedit_cli.nn import ops
from sdedit_cli.runtime import cpu
from sdedit_cli.runtime.cpu.attention import FEWEST
from sdedit_cli.runtime.equip import equip


@pytest.fixture(autouse=True)
def _no_gradients():
    with torch.no_grad():
        yield


def drawn(heads: int, queries: int, keys: int, width: int, dtype: torch.dtype = torch.bfloat16) -> list[Tensor]:
    """Queries, keys and values of two rows as layers lay them, scores of standard deviation 2."""
    generator = torch.Generator().manual_seed(queries + keys)
    shapes = [(2, tokens, heads, width) for tokens in (queries, keys, keys)]
    q, k, v = (torch.randn(shape, generator=generator).to(dtype).transpose(1, 2) for shape in shapes)
    return [2 * q, k, v]


def error(found: Tensor, q: Tensor, k: Tensor, v: Tensor) -> float:
    exact = ops.attention(q.double(), k.double(), v.double())
    return float((found.double() - exact).norm() / exact.norm())


@pytest.mark.parametrize(
    ("heads", "queries", "keys", "width"),
    [(2, 1024, 1024, 40), (1, 4096, 4096, 40), (3, 1500, 1031, 80), (1, 1100, 5000, 16), (1, 1024, 1024, 512)],
)
def test_it_is_exact_to_the_rounding_of_its_scores(heads: int, queries: int, keys: int, width: int) -> None:
    given = drawn(heads, queries, keys, width)
    kept = [x.clone() for x in given]
    found = cpu.attention(*given)
    assert found.shape == given[0].shape
    assert 0 < error(found, *given) < 0.02
    assert all(torch.equal(x, before) for x, before in zip(given, kept, strict=True))
    assert found.transpose(1, 2).is_contiguous(), "what follows reads the heads of a token side by side"


@pytest.mark.skipif(not cpu.is_faster(tiny_unet("sd15")), reason="a promise of the CPUs that it is for")
def test_a_head_does_not_depend_on_its_company() -> None:
    q, k, v = drawn(3, 1200, 1200, 40)
    whole = cpu.attention(q, k, v)
    alone = cpu.attention(q[1:, 2:], k[1:, 2:], v[1:, 2:])
    assert torch.equal(whole[1:, 2:], alone)


@needs_bf16
def test_in_other_precisions_for_few_tokens_and_under_gradients_it_is_torchs_own() -> None:
    for given in (drawn(1, FEWEST, FEWEST, 8, torch.float32), drawn(1, FEWEST - 1, FEWEST, 8), drawn(1, FEWEST, 77, 8)):
        assert torch.equal(cpu.attention(*given), ops.attention(*given))
    q, k, v = given = drawn(1, FEWEST, FEWEST, 8)
    assert torch.equal(cpu.attention(q, k[:1], v[:1]), ops.attention(q, k[:1], v[:1])), "keys of one row for all"
    with torch.enable_grad():
        assert torch.equal(cpu.attention(*given), ops.attention(*given))


@needs_widening
@pytest.mark.parametrize("keys", [5, 77, FEWEST])
def test_what_a_cpu_does_not_multiply_is_that_of_float32_rounded_once(keys: int) -> None:
    given = drawn(2, FEWEST, keys, 40, torch.float16)
    assert torch.equal(cpu.attention(*given), ops.attention(*(x.float() for x in given)).half())
    with torch.enable_grad():
        assert torch.equal(cpu.attention(*given), ops.attention(*given))


@pytest.mark.parametrize("faster", [True, False])
def test_a_network_takes_it_where_it_is_faster_and_leaves_a_choice_alone(
    faster: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpu, "is_faster", lambda network: faster)
    unet = tiny_unet("sd15")
    for _ in range(2):
        equip(unet, torch.device("cpu"))
        assert unet.ops.attention is (cpu.attention if faster else ops.attention)
    unet.ops.attention = chosen = ops.SlicedAttention(1)
    equip(unet, torch.device("cpu"))
    assert unet.ops.attention is chosen
    unet.ops.attention = cpu.attention
    equip(unet, torch.device("meta"))
    assert unet.ops.attention is ops.attention


def test_a_network_that_wants_its_attention_in_float32_keeps_torchs(monkeypatch: pytest.MonkeyPatch) -> None:
    module = importlib.import_module("sdedit_cli.runtime.cpu.attention")
    for name in ("multiplies", "cpu_multiplies_bfloat16_in_vectors_alone"):
        monkeypatch.setattr(module, name, lambda *_: True)
    unet = tiny_unet("sd15")
    assert cpu.is_faster(unet)
    unet.config = replace(unet.config, upcast_attention=True)
    assert not cpu.is_faster(unet)


def test_in_a_trained_network_its_rounding_is_below_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scores of the built-in model reach 100 and more, and all its layers take part."""
    monkeypatch.setattr(importlib.import_module("sdedit_cli.runtime.cpu.attention"), "FEWEST", 1)
    unet: Any = StableDiffusionImg2ImgPipeline.from_pretrained(STARTER_FOLDER).unet
    draw = torch.Generator().manual_seed(1)
    x = torch.randn(4, unet.config.in_channels, 16, 16, generator=draw)
    text = torch.randn(4, 77, unet.config.cross_attention_dim, generator=draw)
    times = torch.tensor([900.0, 600.0, 300.0, 50.0])

    def called() -> Tensor:
        kind = unet.dtype
        return unet(x.to(kind), unet.embed_time(times.to(kind)), unet.context(text.to(kind))).float()

    exact = called()
    cpu.take_out(unet.to(torch.bfloat16))
    errors: list[float] = []
    for attention in (ops.attention, cpu.attention):
        unet.ops.attention = attention
        errors.append(float((called() - exact).norm() / exact.norm()))
    assert 0 < errors[1] < 1.25 * errors[0] < 0.05
