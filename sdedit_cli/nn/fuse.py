"""Query, key and value projections of an attention layer in one storage, for one matrix product instead of three.

The parameters keep their names, shapes and values: fused, they are views of the joint storage, so checkpoints stay
unfused, and weights copied into them reach the joint matrix by themselves.
"""

from __future__ import annotations

import torch
from torch import nn

from .attention import Heads


@torch.inference_mode(False)  # what is made in that mode can be written to in it alone
def fuse_qkv(model: nn.Module) -> None:
    """Fuses every attention layer of `model`. Used where no gradient is wanted; training goes the separate way."""
    for layer in _layers(model):
        layer.fuse()


@torch.inference_mode(False)
def unfuse_qkv(model: nn.Module) -> None:
    """Gives every projection its own storage again, bit for bit as it is."""
    for layer in _layers(model):
        layer.unfuse()


def _layers(model: nn.Module) -> list[Heads]:
    return [layer for layer in model.modules() if isinstance(layer, Heads)]
