"""The attention of a model's table of operations: torch's own, in slices, or xformers'."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from ..errors import UsageError
from ..nn.attention import Heads
from ..nn.base import Model
from ..nn.ops import Attention, SlicedAttention, attention

Slicing = int | Literal["auto", "max"]


def attention_for(
    model: nn.Module, slicing: Slicing | None = None, xformers: bool = False, op: Any = None
) -> Attention:
    """What to put into `model.ops.attention`: torch's own without arguments, so that is how to undo the others.

    `slicing`: heads of the batch at a time, 'auto' for half of a layer's heads, 'max' for one (least memory).
    `xformers` wins over slicing; `op` is its attention_op. Raises UsageError when a layer has fewer heads than a slice,
    and when xformers or its GPU is not there.
    """
    if xformers:
        return XformersAttention(op, _memory_efficient_attention())
    if slicing is None:
        return attention
    return SlicedAttention(_rows(model, slicing))


def set_attention(
    unet: Model[Any], vae: Model[Any], slicing: Slicing | None = None, xformers: bool = False, op: Any = None
) -> None:
    """The attention of both networks, as `attention_for`; the one head of an autoencoder is not sliced."""
    unet.ops.attention = attention_for(unet, slicing, xformers, op)
    vae.ops.attention = attention_for(vae, None, xformers, op)


def _rows(model: nn.Module, slicing: Slicing) -> int | None:
    if isinstance(slicing, str):
        if slicing not in ("auto", "max"):
            raise UsageError(f"attention slice size '{slicing}' is unknown; expected a number, 'auto' or 'max'")
        return {"auto": None, "max": 1}[slicing]
    fewest = min((layer.heads for layer in model.modules() if isinstance(layer, Heads)), default=slicing)
    if not 1 <= slicing <= fewest:
        raise UsageError(f"attention slice size {slicing} does not fit: a layer of this model has {fewest} heads")
    return slicing


@dataclass(frozen=True)
class XformersAttention:
    """xformers' memory-efficient attention, with the heads where it wants them."""

    op: Any
    run: Callable[..., Tensor]

    def __call__(self, q_BNTD: Tensor, k_BNSD: Tensor, v_BNSD: Tensor) -> Tensor:
        q, k, v = (x.transpose(1, 2).contiguous() for x in (q_BNTD, k_BNSD, v_BNSD))
        return self.run(q, k, v, op=self.op).transpose(1, 2)


def _memory_efficient_attention() -> Callable[..., Tensor]:
    if find_spec("xformers") is None:
        raise UsageError("xformers is not installed; try: pip install 'sdedit-cli[xformers]', or sliced attention")
    if not torch.cuda.is_available():
        raise UsageError("xformers' attention needs a CUDA device and there is none; try sliced attention")
    return cast("Callable[..., Tensor]", import_module("xformers.ops").memory_efficient_attention)
