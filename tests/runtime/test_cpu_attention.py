"""Attention a head at a time, for CPUs that multiply in bfloat16 without a matrix unit, against float64 and torch's."""

from __future__ import annotations

import pytest
import torch
from helpers.tiny.networks import tiny_unet
from torch import Tensor

from sdedit_cli.nn import ops
from sdedit_cli.runtime import cpu
from sdedit_cli.runtime.cpu.attention import FEWEST_QUERIES
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
    [(2, 1024, 1024, 40), (1, 4096, 4096, 40), (3, 1500, 77, 80), (1, 1100, 5000, 16), (1, 1024, 1024, 512)],
)
def test_it_is_exact_to_the_rounding_of_its_scores(heads: int, queries: int, keys: int, width: int) -> None:
    given = drawn(heads, queries, keys, width)
    kept = [x.clone() for x in given]
    found = cpu.attention(*given)
    assert found.shape == given[0].shape
    assert 0 < error(found, *given) < 0.02
    assert all(torch.equal(x, before) for x, before in zip(given, kept, strict=True))
    assert found.transpose(1, 2).is_contiguous(), "what follows reads the heads of a token side by side"


def test_a_head_does_not_depend_on_its_company() -> None:
    q, k, v = drawn(3, 1200, 1200, 40)
    whole = cpu.attention(q, k, v)
    alone = cpu.attention(q[1:, 2:], k[1:, 2:], v[1:, 2:])
    assert torch.equal(whole[1:, 2:], alone)


def test_in_other_precisions_for_few_queries_and_under_gradients_it_is_torchs_own() -> None:
    for given in (drawn(1, FEWEST_QUERIES, 64, 8, torch.float32), drawn(1, FEWEST_QUERIES - 1, 64, 8)):
        assert torch.equal(cpu.attention(*given), ops.attention(*given))
    given = drawn(1, FEWEST_QUERIES, 64, 8)
    with torch.enable_grad():
        assert torch.equal(cpu.attention(*given), ops.attention(*given))


@pytest.mark.parametrize("faster", [True, False])
def test_a_network_takes_it_where_it_is_faster_and_leaves_a_choice_alone(
    faster: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpu, "is_faster", lambda: faster)
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
