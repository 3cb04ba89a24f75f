# pyright: basic, reportMissingImports=false
# Triton reads the annotations of its functions, so they are not postponed here.
"""GEGLU, and the end of a residual block: one pass over memory each."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from ...nn import ops as plain
from .launch import start, takes, takes_pictures

_TILE = 1024
_OF_FEATURES = 256  # divides the widths of all models


@triton.jit(do_not_specialize=["features"])
def _geglu(x_ptr, y_ptr, features, TILE: tl.constexpr):
    token = tl.program_id(0).to(tl.int64)
    feature = tl.program_id(1) * TILE + tl.arange(0, TILE)
    inside = feature < features
    place = token * 2 * features + feature
    value = tl.load(x_ptr + place, mask=inside, other=0.0).to(tl.float32)
    gate = tl.load(x_ptr + place + features, mask=inside, other=0.0).to(tl.float32)
    y = value * 0.5 * gate * (1.0 + tl.erf(gate * 0.7071067811865476))
    tl.store(y_ptr + token * features + feature, y.to(y_ptr.dtype.element_ty), mask=inside)


@triton.jit(do_not_specialize=["of_first", "of_second"])
def _residual(
    h_ptr, skip_ptr, y_ptr, first_ptr, second_ptr, numbers, channels, of_first, of_second, TILE: tl.constexpr
):
    # As many numbers get a bias as are said of it: all, or none.
    place = tl.program_id(0).to(tl.int64) * TILE + tl.arange(0, TILE)
    inside = place < numbers
    channel = place % channels
    h = tl.load(h_ptr + place, mask=inside, other=0.0).to(tl.float32)
    h += tl.load(first_ptr + channel, mask=place < of_first, other=0.0).to(tl.float32)
    h += tl.load(second_ptr + channel, mask=place < of_second, other=0.0).to(tl.float32)
    y = tl.load(skip_ptr + place, mask=inside, other=0.0).to(tl.float32) + h
    tl.store(y_ptr + place, y.to(y_ptr.dtype.element_ty), mask=inside)


def geglu(x_BT2E: Tensor) -> Tensor:
    """See `nn.ops.geglu`."""
    if not (takes(x_BT2E) and x_BT2E.is_contiguous()):
        return plain.geglu(x_BT2E)
    features = x_BT2E.shape[-1] // 2
    y_BTE = torch.empty(*x_BT2E.shape[:-1], features, dtype=x_BT2E.dtype, device=x_BT2E.device)
    grid = (y_BTE.numel() // features, triton.cdiv(features, _OF_FEATURES))
    start(_geglu, grid, x_BT2E, y_BTE, features, TILE=_OF_FEATURES, num_warps=1)
    return y_BTE


def residual(h_BCHW: Tensor, skip_BCHW: Tensor, shifts: plain.Shifts = ()) -> Tensor:
    """See `nn.ops.residual`."""
    flat = len(shifts) <= 2 and all(shift.ndim == 1 and shift.is_contiguous() for shift in shifts)
    if not (flat and takes_pictures(h_BCHW, skip_BCHW)):
        return plain.residual(h_BCHW, skip_BCHW, shifts)
    y_BCHW = torch.empty_like(h_BCHW)
    first, second = (*shifts, h_BCHW, h_BCHW)[:2]
    numbers, grid = h_BCHW.numel(), (triton.cdiv(h_BCHW.numel(), _TILE),)
    have = [numbers if len(shifts) > at else 0 for at in (0, 1)]
    arguments = (skip_BCHW, y_BCHW, first, second, numbers, h_BCHW.shape[1], *have)
    start(_residual, grid, h_BCHW, *arguments, TILE=_TILE, num_warps=4)
    return y_BCHW
