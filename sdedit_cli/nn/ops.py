"""The table of operations that hardware replaces: one `Ops` a model, read by all its layers at each call.

Because a model owns its table, another kernel for one model never touches a second model in the same process,
and putting the old function back undoes it exactly. Replacements keep the signatures and, to rounding, the values.

Shapes: B rows, C channels, H W picture, N heads, T queries, S keys, D width of a head, E features.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

Attention = Callable[[Tensor, Tensor, Tensor], Tensor]
GroupNormSiLU = Callable[[Tensor, int, Tensor, Tensor, float], Tensor]


LONGEST_CALL = 2**35
"""Multiplications of one call on a CPU, about a second of work: only between calls can Ctrl-C end a run."""

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
    pieces = torch.split(q_BNTD, rows, dim=2)
    return torch.cat([F.scaled_dot_product_attention(piece, k_BNSD, v_BNSD) for piece in pieces], dim=2)


def queries_a_call(q_BNTD: Tensor, k_BNSD: Tensor) -> int:
    """How many queries keep a call under LONGEST_CALL, in whole blocks and at least one."""
    each = q_BNTD[:, :, 0].numel() * k_BNSD.shape[2]
    return max(1, LONGEST_CALL // max(1, each) // _BLOCK) * _BLOCK


def group_norm_silu(x_BCHW: Tensor, groups: int, weight_C: Tensor, bias_C: Tensor, eps: float) -> Tensor:
    """silu(group_norm(x)): [B, C, H, W]."""
    return F.silu(F.group_norm(x_BCHW, groups, weight_C, bias_C, eps))


def geglu(x_BT2E: Tensor) -> Tensor:
    """The first half of the features, gated by GELU of the second (arXiv 2002.05202): [B, T, E]."""
    value_BTE, gate_BTE = x_BT2E.chunk(2, dim=-1)
    return value_BTE * F.gelu(gate_BTE)


@dataclass
class Ops:
    """The operations of one model."""

    attention: Attention = attention
    group_norm_silu: GroupNormSiLU = group_norm_silu
    geglu: Callable[[Tensor], Tensor] = geglu


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
