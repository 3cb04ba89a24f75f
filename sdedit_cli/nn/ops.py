"""The table of operations that hardware replaces: one `Ops` a model, read by all its layers at each call.

Because a model owns its table, another kernel for one model never touches a second model in the same process,
and putting the old function back undoes it exactly. Replacements keep the signatures and, to rounding, the values; they
may write over a picture that they are to shift, and over `h`, which nobody else reads.

Shapes: B rows, C channels, H W picture, N heads, T queries, S keys, D width of a head, E features.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

Attention = Callable[[Tensor, Tensor, Tensor], Tensor]
Shifts = tuple[Tensor, ...]
"""What is added to a picture's channels beforehand, one after the other: each [C], or [B, C]."""
GroupNorm = Callable[[Tensor, int, Tensor, Tensor, float, Shifts], Tensor]


LONGEST_CALL = 2**35
"""Multiplications of one call on a CPU, about a second of work: only between calls can Ctrl-C end a run. The last of
an attention may have a block of queries more."""

_BLOCK = 256
"""Queries that torch's kernel takes at a time: pieces of whole blocks have the bits of one call."""


def attention(q_BNTD: Tensor, k_BNSD: Tensor, v_BNSD: Tensor) -> Tensor:
    """softmax(q k / sqrt(D)) v, per head: [B, N, T, D].

    Half-precision scores are accumulated in float32 by every backend of torch's kernel, which is what the
    `upcast_attention` key of older configs asks for. On a CPU long work is cut by queries, with the same bits.
    """
    rows = queries_a_call(q_BNTD, k_BNSD) if q_BNTD.device.type == "cpu" else q_BNTD.shape[2]
    if rows >= q_BNTD.shape[2]:
        return F.scaled_dot_product_attention(q_BNTD, k_BNSD, v_BNSD)
    pieces = _pieces(q_BNTD, rows)
    return torch.cat([F.scaled_dot_product_attention(piece, k_BNSD, v_BNSD) for piece in pieces], dim=2)


def _pieces(q_BNTD: Tensor, rows: int) -> list[Tensor]:
    """So many queries each, a rest of less than a block with the last: a few have other bits alone."""
    cuts = list(range(rows, q_BNTD.shape[2] - _BLOCK + 1, rows))
    return list(torch.tensor_split(q_BNTD, cuts, dim=2))


def queries_a_call(q_BNTD: Tensor, k_BNSD: Tensor) -> int:
    """How many queries keep a call under LONGEST_CALL, in whole blocks and at least one."""
    each = q_BNTD[:, :, 0].numel() * k_BNSD.shape[2]
    return max(1, LONGEST_CALL // max(1, each) // _BLOCK) * _BLOCK


def group_norm(
    x_BCHW: Tensor, groups: int, weight_C: Tensor, bias_C: Tensor, eps: float, shifts: Shifts = ()
) -> Tensor:
    """group_norm(x + shifts): [B, C, H, W]."""
    return F.group_norm(shifted(x_BCHW, shifts), groups, weight_C, bias_C, eps)


def group_norm_silu(
    x_BCHW: Tensor, groups: int, weight_C: Tensor, bias_C: Tensor, eps: float, shifts: Shifts = ()
) -> Tensor:
    """silu(group_norm(x + shifts)): [B, C, H, W]."""
    return F.silu(group_norm(x_BCHW, groups, weight_C, bias_C, eps, shifts))


def shifted(x_BCHW: Tensor, shifts: Shifts) -> Tensor:
    """x plus all of the shifts."""
    for shift in shifts:
        x_BCHW = x_BCHW + shift[..., None, None]
    return x_BCHW


def residual(h_BCHW: Tensor, skip_BCHW: Tensor, shifts: Shifts = ()) -> Tensor:
    """skip + (h + shifts): [B, C, H, W]."""
    return skip_BCHW + shifted(h_BCHW, shifts)


def layer_norm(x_BTE: Tensor, weight_E: Tensor, bias_E: Tensor, eps: float) -> Tensor:
    """Each token normed over its features: [B, T, E]."""
    return F.layer_norm(x_BTE, weight_E.shape, weight_E, bias_E, eps)


def add_layer_norm(h_BTE: Tensor, x_BTE: Tensor, weight_E: Tensor, bias_E: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """h + x, and that normed: each [B, T, E]."""
    x_BTE = h_BTE + x_BTE
    return x_BTE, layer_norm(x_BTE, weight_E, bias_E, eps)


def geglu(x_BT2E: Tensor) -> Tensor:
    """The first half of the features, gated by GELU of the second (arXiv 2002.05202): [B, T, E]."""
    value_BTE, gate_BTE = x_BT2E.chunk(2, dim=-1)
    return value_BTE * F.gelu(gate_BTE)


@dataclass
class Ops:
    """The operations of one model."""

    attention: Attention = attention
    group_norm: GroupNorm = group_norm
    group_norm_silu: GroupNorm = group_norm_silu
    residual: Callable[[Tensor, Tensor, Shifts], Tensor] = residual
    layer_norm: Callable[[Tensor, Tensor, Tensor, float], Tensor] = layer_norm
    add_layer_norm: Callable[[Tensor, Tensor, Tensor, Tensor, float], tuple[Tensor, Tensor]] = add_layer_norm
    geglu: Callable[[Tensor], Tensor] = geglu
    channels_last: bool = False
    """Pictures lie with their channels last: 1 x 1 convolutions are matrix products then, and the biases of others are
    left to the operation that follows, where a kernel of the device adds them in passing."""


@dataclass(frozen=True)
class SlicedAttention:
    """Attention over `rows` heads of the whole batch at a time: less memory for the scores, the same values.

    `rows` is None for half of the heads, the historical "auto".
    """

    rows: int | None
    inner: Attention = attention

    def __call__(self, q_BNTD: Tensor, k_BNSD: Tensor, v_BNSD: Tensor) -> Tensor:
        batch, heads = q_BNTD.shape[:2]
        rows = self.rows or max(1, heads // 2)
        q, k, v = (x.flatten(0, 1).unsqueeze(1) for x in (q_BNTD, k_BNSD, v_BNSD))
        parts = [self.inner(q[i : i + rows], k[i : i + rows], v[i : i + rows]) for i in range(0, batch * heads, rows)]
        return torch.cat(parts).view(batch, heads, *q.shape[2:3], v.shape[3])
