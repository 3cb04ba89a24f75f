"""Packed weights that lie in half precision, on any CPU that oneDNN packs for."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from helpers.packing import needs_widening

from sdedit_cli.runtime.cpu import narrow
from sdedit_cli.runtime.cpu.narrow import Narrow
from sdedit_cli.runtime.cpu.wide import is_there

pytestmark = pytest.mark.skipif(not is_there(), reason="torch has no oneDNN for this kind of processor")
ONEDNN: Any = torch.ops.mkldnn


@torch.no_grad()
@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
def test_weights_are_as_they_were_and_their_products_those_of_float32(half: torch.dtype) -> None:
    weights = [torch.randn(50, 64).to(half) for _ in range(3)]
    kept = [Narrow(ONEDNN._reorder_linear_weight(weight.float(), 32), half) for weight in weights]
    assert len({id(one.room) for one in kept}) == 1
    x = torch.randn(32, 64)
    for weight, one in zip(weights, kept, strict=True):
        assert one.numbers.dtype == one.dtype == half
        assert one.shape == weight.shape
        assert torch.equal(one.to_dense(), weight)
        found = one.multiplied(lambda packed: ONEDNN._linear_pointwise(x, packed, None, "none", [], ""))
        torch.testing.assert_close(found, x @ weight.float().T)


@needs_widening
@pytest.mark.parametrize(("out", "count"), [(640, 4), (48, 1), (50, 1), (100, 1)])
def test_large_weights_are_cut_into_whole_blocks_and_others_are_not(out: int, count: int) -> None:
    weight = torch.empty(out, 512, 3, 3, dtype=torch.float16)
    cut = narrow.pieces(weight)
    assert len(cut) == count
    assert torch.cat(cut).shape == weight.shape
    assert all(len(piece) % 48 == 0 for piece in cut[:-1])
    assert len(narrow.pieces(weight.float())) == 1
