"""Operations that write over what is handed to them for that, with the bits of the plain ones: a result's memory costs
more than its numbers where it is fresh. Where gradients are wanted they are the plain ones.

Shapes: as in `nn.ops`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ...nn import ops as plain
from ...nn.ops import Ops, Shifts
from . import norms


def group_norm(
    x_BCHW: Tensor, groups: int, weight_C: Tensor, bias_C: Tensor, eps: float, shifts: Shifts = ()
) -> Tensor:
    if torch.is_grad_enabled():
        return plain.group_norm(x_BCHW, groups, weight_C, bias_C, eps, shifts)
    x_BCHW = _shift(x_BCHW, shifts)
    if x_BCHW.dtype == torch.float32 and not x_BCHW.is_contiguous():
        return norms.group_norm(x_BCHW, groups, weight_C, bias_C, eps)
    return F.group_norm(x_BCHW, groups, weight_C, bias_C, eps)


def group_norm_silu(
    x_BCHW: Tensor, groups: int, weight_C: Tensor, bias_C: Tensor, eps: float, shifts: Shifts = ()
) -> Tensor:
    if torch.is_grad_enabled():
        return plain.group_norm_silu(x_BCHW, groups, weight_C, bias_C, eps, shifts)
    return F.silu(group_norm(x_BCHW, groups, weight_C, bias_C, eps, shifts), inplace=True)


def residual(h_BCHW: Tensor, skip_BCHW: Tensor, shifts: Shifts = ()) -> Tensor:
    if torch.is_grad_enabled():
        return plain.residual(h_BCHW, skip_BCHW, shifts)
    return _shift(h_BCHW, shifts).add_(skip_BCHW)


def add_layer_norm(h_BTE: Tensor, x_BTE: Tensor, weight_E: Tensor, bias_E: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    if torch.is_grad_enabled():
        return plain.add_layer_norm(h_BTE, x_BTE, weight_E, bias_E, eps)
    x_BTE = h_BTE.add_(x_BTE)
    return x_BTE, plain.layer_norm(x_BTE, weight_E, bias_E, eps)


def geglu(x_BT2E: Tensor) -> Tensor:
    if torch.is_grad_enabled():
        return plain.geglu(x_BT2E)
    value_BTE, gate_BTE = x_BT2E.chunk(2, dim=-1)
    return F.gelu(gate_BTE).mul_(value_BTE)


def _shift(x_BCHW: Tensor, shifts: Shifts) -> Tensor:
    for shift in shifts:
        x_BCHW.add_(shift[..., None, None])
    return x_BCHW


OPERATIONS = {
    "group_norm": group_norm,
    "group_norm_silu": group_norm_silu,
    "residual": residual,
    "add_layer_norm": add_layer_norm,
    "geglu": geglu,
}


def put_into(ops: Ops) -> None:
    """Replaces the plain operations of a model's table."""
    for name, operation in OPERATIONS.items():
        setattr(ops, name, operation)


def take_out(ops: Ops) -> None:
    """The plain ones again, where these were."""
    for name, operation in OPERATIONS.items():
        if getattr(ops, name) is operation:
            setattr(ops, name, getattr(plain, name))
