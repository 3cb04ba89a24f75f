# pyright: basic, reportMissingImports=false
# Triton reads the annotations of its functions, so they are not postponed here.
"""LayerNorm, alone and behind the addition of a residual: a token a program, summed in float32."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from ...nn import ops as plain
from .launch import start, takes

_MOST_FEATURES = 8192


@triton.jit(do_not_specialize=["features"])
def _layer_norm(
    x_ptr, h_ptr, total_ptr, y_ptr, w_ptr, b_ptr, features, eps, ADDS: tl.constexpr, FEATURES: tl.constexpr
):
    token = tl.program_id(0).to(tl.int64)
    feature = tl.arange(0, FEATURES)
    inside = feature < features
    place = token * features + feature
    x = tl.load(x_ptr + place, mask=inside, other=0.0).to(tl.float32)
    if ADDS:
        x += tl.load(h_ptr + place, mask=inside, other=0.0).to(tl.float32)
        # What goes on is what is normed: the rounded sum.
        total = x.to(total_ptr.dtype.element_ty)
        tl.store(total_ptr + place, total, mask=inside)
        x = total.to(tl.float32)
    mean = tl.sum(tl.where(inside, x, 0.0), axis=0) / features
    d = tl.where(inside, x - mean, 0.0)
    scale = tl.rsqrt(tl.sum(d * d, axis=0) / features + eps)
    y = d * scale * tl.load(w_ptr + feature, mask=inside, other=0.0).to(tl.float32)
    y += tl.load(b_ptr + feature, mask=inside, other=0.0).to(tl.float32)
    tl.store(y_ptr + place, y.to(y_ptr.dtype.element_ty), mask=inside)


def layer_norm(x_BTE: Tensor, weight_E: Tensor, bias_E: Tensor, eps: float) -> Tensor:
    """See `nn.ops.layer_norm`."""
    if not _takes(x_BTE):
        return plain.layer_norm(x_BTE, weight_E, bias_E, eps)
    y_BTE = torch.empty_like(x_BTE)
    _start(x_BTE, x_BTE, x_BTE, y_BTE, weight_E, bias_E, eps, adds=False)
    return y_BTE


def add_layer_norm(h_BTE: Tensor, x_BTE: Tensor, weight_E: Tensor, bias_E: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """See `nn.ops.add_layer_norm`."""
    if not (_takes(h_BTE) and _takes(x_BTE)):
        return plain.add_layer_norm(h_BTE, x_BTE, weight_E, bias_E, eps)
    total_BTE, y_BTE = torch.empty_like(x_BTE), torch.empty_like(x_BTE)
    _start(x_BTE, h_BTE, total_BTE, y_BTE, weight_E, bias_E, eps, adds=True)
    return total_BTE, y_BTE


def _takes(x_BTE: Tensor) -> bool:
    return takes(x_BTE) and x_BTE.is_contiguous() and x_BTE.shape[-1] <= _MOST_FEATURES


def _start(
    x_BTE: Tensor, h_BTE: Tensor, total_BTE: Tensor, y_BTE: Tensor, w_E: Tensor, b_E: Tensor, eps: float, *, adds: bool
) -> None:
    features = x_BTE.shape[-1]
    tile = triton.next_power_of_2(features)
    start(
        *(_layer_norm, (x_BTE.numel() // features,), x_BTE, h_BTE, total_BTE, y_BTE, w_E, b_E, features, eps),
        ADDS=adds,
        FEATURES=tile,
        num_warps=max(1, min(8, tile // 256)),
    )
