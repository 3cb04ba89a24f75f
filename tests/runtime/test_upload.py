"""Weights that go through buffers arrive as they were, whatever their size, layout and precision."""

from __future__ import annotations

import pytest
import torch
from helpers.tiny.networks import tiny_unet
from torch import nn

from sdedit_cli.nn.fuse import fuse_qkv
from sdedit_cli.runtime.upload import Staging, upload

CPU = torch.device("cpu")


def mixed() -> list[torch.Tensor]:
    """Small and larger than a buffer, channels last, empty, whole numbers, views that begin anywhere."""
    return [
        torch.randn(50, 7),
        torch.randn(3, 4, 5, 5).to(memory_format=torch.channels_last),
        torch.randn(999, dtype=torch.float16)[13:300].view(7, 41),
        torch.randn(129, dtype=torch.bfloat16),
        torch.empty(0),
        torch.arange(77),
        torch.tensor(2.5),
    ]


@pytest.mark.parametrize("size", [64, 1000, 1 << 20])
def test_every_tensor_arrives_with_its_layout_in_storage_of_its_own(size: int) -> None:
    staging = Staging(CPU, size=size, pinned=False)
    for tensor in mixed():
        got = staging.sent(tensor)
        assert got.dtype == tensor.dtype
        assert got.stride() == tensor.stride()
        assert torch.equal(got, tensor)
        assert not tensor.numel() or got.data_ptr() != tensor.data_ptr()


def test_what_does_not_lie_in_one_piece_arrives_too() -> None:
    layer = nn.Linear(6, 9, bias=False)
    layer.weight.data = torch.randn(6, 9).t()
    before = layer.weight.detach().clone()
    upload(layer, Staging(CPU, size=64, pinned=False))
    assert torch.equal(layer.weight, before)


def test_a_network_computes_the_same_behind_it_with_projections_that_are_still_joint() -> None:
    unet = tiny_unet()
    fuse_qkv(unet)
    given = torch.randn(2, 4, 8, 8), unet.embed_time(torch.tensor([900, 10])), unet.context(torch.randn(2, 7, 32))
    with torch.no_grad():
        before, kept = unet(*given), [parameter.data for parameter in unet.parameters()]
        upload(unet, Staging(CPU, size=1000, pinned=False))
        places = {parameter.data_ptr() for parameter in unet.parameters()}
        assert not places & {tensor.data_ptr() for tensor in kept}
        assert torch.equal(unet(*given), before)
    assert all(layer._joint is not None for layer in unet.cross_attentions())
