"""What every network here has: a config, a table of operations, a dtype and a device; and layers that skip their
random initialisation on the meta device, where weights are about to be assigned from a file."""

from __future__ import annotations

from typing import Generic, TypeVar

import torch
from torch import nn

from .ops import Ops

C = TypeVar("C")


class Model(nn.Module, Generic[C]):
    """A network built from its config; `ops` is its own and may be changed between calls."""

    def __init__(self, config: C, ops: Ops | None = None) -> None:
        super().__init__()
        self.config = config
        self.ops = ops or Ops()

    @property
    def dtype(self) -> torch.dtype:
        return next(self.parameters()).dtype

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device


class Linear(nn.Linear):
    def reset_parameters(self) -> None:
        if not self.weight.is_meta:
            super().reset_parameters()


class Conv2d(nn.Conv2d):
    def reset_parameters(self) -> None:
        if not self.weight.is_meta:
            super().reset_parameters()


class GroupNorm(nn.GroupNorm):
    def reset_parameters(self) -> None:
        if not self.weight.is_meta:
            super().reset_parameters()


class LayerNorm(nn.LayerNorm):
    def reset_parameters(self) -> None:
        if not self.weight.is_meta:
            super().reset_parameters()


class Embedding(nn.Embedding):
    def reset_parameters(self) -> None:
        if not self.weight.is_meta:
            super().reset_parameters()
