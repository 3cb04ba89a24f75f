"""What every network here has: a config, a table of operations, a dtype and a device; and layers that skip their
random initialisation on the meta device, where weights are about to be assigned from a file."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any, Generic, TypeVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .ops import Ops
from .wrap import NONE, Wrap, pad

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

    @torch.inference_mode(False)  # what is made in that mode can be written to in it alone, as adapters do
    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Model[C]:
        super()._apply(fn, recurse)  # pyright: ignore[reportUnknownMemberType] -- torch leaves it untyped
        return self


class Linear(nn.Linear):
    """`way` is how a device computes it otherwise."""

    way: Callable[[Linear, Tensor], Tensor] | None = None

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input) if self.way is None else self.way(self, input)

    def reset_parameters(self) -> None:
        if not self.weight.is_meta:
            super().reset_parameters()


class Conv2d(nn.Conv2d):
    """`wrap` says along which axes the picture's edges meet; see `wrapped`. `way` is how a device computes it
    otherwise, of a picture, a bias and a padding. Scripts set `padding_mode`, as on torch's own."""

    wrap: Wrap = NONE
    way: Callable[[Conv2d, Tensor, Tensor | None, tuple[int, int]], Tensor] | None = None

    def forward(self, input: Tensor) -> Tensor:
        return self._convolved(input, self.bias)

    def without_bias(self, x_BCHW: Tensor) -> Tensor:
        """The result before the bias is added."""
        return self._convolved(x_BCHW, None)

    def _convolved(self, x_BCHW: Tensor, bias: Tensor | None) -> Tensor:
        padding = cast("tuple[int, int]", self.padding)
        wraps = any(self.wrap)
        if any(padding) and (wraps or self.padding_mode != "zeros"):
            sides = (padding[1], padding[1], padding[0], padding[0])
            x_BCHW = pad(x_BCHW, sides, self.wrap) if wraps else F.pad(x_BCHW, sides, self.padding_mode)
            padding = (0, 0)
        if self.way is not None:
            return self.way(self, x_BCHW, bias, padding)
        return F.conv2d(x_BCHW, self.weight, bias, self.stride, padding, self.dilation, self.groups)

    def reset_parameters(self) -> None:
        if not self.weight.is_meta:
            super().reset_parameters()


@contextmanager
def wrapped(network: nn.Module, wrap: Wrap) -> Generator[None]:
    """Has all convolutions of a network wrap along these axes, until the end of the block."""
    convolutions = [module for module in network.modules() if isinstance(module, Conv2d)] if any(wrap) else []
    try:
        for convolution in convolutions:
            convolution.wrap = wrap
        yield
    finally:
        for convolution in convolutions:
            convolution.wrap = NONE


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
