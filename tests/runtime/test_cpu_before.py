"""A layer that is packed for one shape gives another the bits that it has packed for that one."""

from __future__ import annotations

import pytest
import torch
from helpers.packing import packed
from torch import Tensor, nn

from sdedit_cli.nn.base import Conv2d, Linear
from sdedit_cli.runtime.cpu.packed import FEWEST_ROWS, is_there, put_into

pytestmark = pytest.mark.skipif(not is_there(), reason="torch has no oneDNN for this kind of processor")


@pytest.fixture(autouse=True)
def _no_gradients():
    with torch.no_grad():
        yield


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("stride", [1, 2])
def test_what_a_convolution_computed_before_does_not_matter(dtype: torch.dtype, last: bool, stride: int) -> None:
    form = torch.channels_last if last else torch.contiguous_format
    sizes = [(1, 4), (2, 8), (1, 16), (2, 24)]
    for channels, wide in ((32, 64), (64, 32), (320, 320)):
        for rows, side in sizes:
            x = torch.randn(rows, channels, side, side).to(dtype).contiguous(memory_format=form)
            results: list[Tensor] = []
            for first, other in sizes:
                torch.manual_seed(2)
                holder = nn.Module()
                layer = holder.layer = Conv2d(channels, wide, 3, stride, padding=1).to(dtype).requires_grad_(False)
                put_into(holder)
                layer(torch.randn(first, channels, other, other).to(dtype).contiguous(memory_format=form))
                assert packed(holder)
                results.append(layer(x))
            assert all(torch.equal(result, results[0]) for result in results)


def test_what_a_layer_computed_before_does_not_matter(dtype: torch.dtype) -> None:
    """Packed for one number of rows, a product of another has the bits that it has packed for that one."""
    for width, wide in ((320, 64), (640, 320), (64, 1280)):
        for rows in (FEWEST_ROWS, 77, 154, 1024):
            x = torch.randn(rows, width).to(dtype)
            results: list[Tensor] = []
            for first in (FEWEST_ROWS, 60, 154, 4096):
                torch.manual_seed(2)
                holder = nn.Module()
                layer = holder.layer = Linear(width, wide).to(dtype).requires_grad_(False)
                put_into(holder)
                layer(torch.randn(first, width).to(dtype))
                assert packed(holder)
                results.append(layer(x))
            assert all(torch.equal(result, results[0]) for result in results)
