"""Attention over a large picture is many calls on a CPU: between two of them Ctrl-C ends a run, and no bit differs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from sdedit_cli.nn import ops

SHAPES = {  # rows, heads, queries, keys, width of a head
    "an autoencoder's bottom": (1, 1, 1500, 1500, 96),
    "a level of a UNet": (2, 3, 1100, 1100, 40),
    "a text": (2, 2, 1033, 77, 64),
    "one query over whole blocks": (1, 2, 513, 300, 32),
}


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The multiplications of each call of torch's kernel, which does its work as ever."""
    made: list[int] = []
    kernel = F.scaled_dot_product_attention

    def counted(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        made.append(q.numel() * k.shape[2])
        return kernel(q, k, v)

    monkeypatch.setattr(F, "scaled_dot_product_attention", counted)
    return made


def drawn(shape: tuple[int, ...], dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values as the layers lay them out: heads beside one another."""
    rows, heads, queries, keys, width = shape
    draw = torch.Generator().manual_seed(0)

    def part(length: int) -> Tensor:
        return torch.randn(rows, length, heads, width, generator=draw).to(dtype).transpose(1, 2)

    return part(queries), part(keys), part(keys)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", SHAPES)
def test_pieces_have_the_bits_of_one_call(
    name: str, dtype: torch.dtype, calls: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    q, k, v = drawn(SHAPES[name], dtype)
    whole = ops.attention(q, k, v)
    assert len(calls) == 1
    monkeypatch.setattr(ops, "LONGEST_CALL", 1)
    pieces = ops.attention(q, k, v)
    assert len(calls) == 1 + q.shape[2] // 256, "a rest is taken with the last"
    assert torch.equal(pieces, whole)
    assert pieces.shape == whole.shape


def test_no_call_is_longer_than_said(calls: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    q, k, v = drawn((1, 2, 2000, 500, 32), torch.float32)
    longest = q.numel() * 500 // 3
    monkeypatch.setattr(ops, "LONGEST_CALL", longest)
    ops.attention(q, k, v)
    assert len(calls) == 4  # of 512 queries, the most whole blocks in a third of 2000, and the rest
    assert max(calls) <= longest
    calls.clear()
    ops.attention(q[:, :, :1100], k, v)  # the rest, of 76, is taken with the last
    assert len(calls) == 2
    assert max(calls) <= longest + 256 * longest / 512


def test_slices_of_heads_are_cut_too(calls: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    q, k, v = drawn((1, 2, 600, 600, 16), torch.float32)
    whole: Any = ops.SlicedAttention(1)(q, k, v)
    monkeypatch.setattr(ops, "LONGEST_CALL", 1)
    assert torch.equal(ops.SlicedAttention(1)(q, k, v), whole)
    assert len(calls) == 2 + 2 * 2


def test_a_usual_picture_is_one_call() -> None:
    """512 px in the first level of Stable Diffusion, a prompt and its negative."""
    q = torch.empty(2, 8, 4096, 40, device="meta")
    assert ops.queries_a_call(q, q) >= 4096
