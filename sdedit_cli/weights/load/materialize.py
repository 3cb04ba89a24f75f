"""One tensor from a source: source precision -> float32 -> plus deltas -> one rounding."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor

from ..formats.mapped_file import adopt, release
from .prefault import populate

_SPAN = 1 << 18  # numbers whose pages are asked for just before they are written, while the cache still holds them
_PIECE = 1 << 15  # numbers that torch casts on the thread that asks, however many it has: loads have their own

_thread = threading.local()

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
    made = torch.empty(base.shape, dtype=dtype, device="cpu")
    if not base.is_contiguous():
        populate(made)
        return made.copy_(base)
    piece = _SPAN if torch.get_num_threads() == 1 else _PIECE
    # torch casts from half to bfloat16 one number at a time; by way of float32 both steps are vectorised.
    between = _between() if (base.dtype, dtype) == (torch.float16, torch.bfloat16) else None
    for source, target in zip(_pieces(base, _SPAN), _pieces(made, _SPAN), strict=True):
        populate(target)
        for part, place in zip(_pieces(source, piece), _pieces(target, piece), strict=True):
            place.copy_(part if between is None else between[: part.numel()].copy_(part))
    return made


def _between() -> Tensor:
    """A buffer of this thread's. One of each cast's own would leave holes in the heap, a sixth of a model in all."""
    if not hasattr(_thread, "between"):
        with torch.inference_mode(False):  # what is made in that mode could only be written to in it
            _thread.between = torch.empty(_SPAN, dtype=torch.float32, device="cpu")
    return _thread.between


def _pieces(tensor: Tensor, numbers: int) -> tuple[Tensor, ...]:
    return cast("tuple[Tensor, ...]", tensor.view(-1).split(numbers))
