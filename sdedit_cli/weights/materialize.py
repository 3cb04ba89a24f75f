"""One tensor from a source: source precision -> float32 -> plus deltas -> one rounding."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor

from .mapping import adopt, release
from .pages import empty

_PIECE = 1 << 16  # numbers of float32 that stay in a core's cache

Delta = Callable[[Tensor], Tensor]  # the weight in float32 -> what is to be added to it


def materialize(
    base: Tensor,
    dtype: torch.dtype | None = None,
    deltas: Sequence[Delta | Tensor] = (),
    *,
    device: torch.device | str = "cpu",
) -> Tensor:
    """`base`, as a source gave it, in `dtype` (None: as it is) on `device`, in storage that may be written to.

    A delta is a tensor, or a function of the float32 base weight. Tensors that are not floating point are never cast
    and take no deltas. Without deltas, cast or move, a mapped tensor is adopted without a copy.
    """
    target = dtype if dtype and base.dtype.is_floating_point else base.dtype
    device = torch.device(device)
    if not deltas:
        if device.type == "cpu" and target == base.dtype:
            return adopt(base)
        # The device casts faster than the processor does, and the fewest bytes travel in source precision.
        moved = base.to(device).to(target) if device.type != "cpu" else _cast(base, target)
        release(base)
        return moved
    wide = torch.float64 if base.dtype == torch.float64 else torch.float32
    weight = base.to(device).to(wide)
    total = weight.clone()
    for delta in deltas:
        total += (delta if isinstance(delta, Tensor) else delta(weight)).to(total)
    release(base)
    return total.to(target)


def _cast(base: Tensor, dtype: torch.dtype) -> Tensor:
    made = empty(base.shape, dtype)
    if (base.dtype, dtype) != (torch.float16, torch.bfloat16) or not base.is_contiguous():
        return made.copy_(base)
    # The direct copy goes through float32 one number at a time; piece by piece it is vectorised both ways.
    between = torch.empty(min(base.numel(), _PIECE))
    for source, target in zip(_pieces(base), _pieces(made), strict=True):
        target.copy_(between[: source.numel()].copy_(source))
    return made


def _pieces(tensor: Tensor) -> tuple[Tensor, ...]:
    return cast("tuple[Tensor, ...]", tensor.view(-1).split(_PIECE))
