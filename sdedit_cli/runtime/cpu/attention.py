"""Attention for CPUs on which torch's own is slow in half precision.

Those that do not multiply in it have torch's in float32. Those that multiply in bfloat16 without a matrix unit have a
head and some queries at a time, as two products and a softmax: torch's kernel makes its products there at the rate of
float32 and below.

Scaled keys and scores are rounded to bfloat16 on their way, so a network that wants its attention in float32 is to keep
torch's. A head's bits do not depend on the other heads of a batch.

Shapes: B rows, N heads, T queries, S keys, D width of a head, W the same in whole lanes.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ...nn.base import Model
from ...nn.ops import attention as plain
from ..dtype import cpu_multiplies_bfloat16_in_vectors_alone
from .packed import computes
from .wide import multiplies, wide, widens

FEWEST = 1024
"""With fewer queries or keys, torch's kernel is as fast."""
_SCORES = 2**21
"""Of one product: they are still in the caches when they are used."""
_ROUNDED = 64
"""Queries of one product are a multiple of it."""
_LANES = 16
"""A product whose result has another width takes a third longer where there are many keys."""


def is_faster(network: Model[Any]) -> bool:
    """Whether this CPU is one of those, for a network of that precision; a network that wants its attention in float32
    has none of its own where it would be rounded on the way."""
    wants_float32 = getattr(network.config, "upcast_attention", False)
    in_vectors = multiplies(torch.bfloat16) and cpu_multiplies_bfloat16_in_vectors_alone()
    return widens(network.dtype) or (in_vectors and not wants_float32)


def attention(q_BNTD: Tensor, k_BNSD: Tensor, v_BNSD: Tensor) -> Tensor:
    """softmax(q k / sqrt(D)) v, per head: [B, N, T, D]; torch's own where this is no gain."""
    if computes(q_BNTD) and widens(q_BNTD.dtype):
        return plain(wide(q_BNTD), wide(k_BNSD), wide(v_BNSD)).to(q_BNTD.dtype)
    queries, keys = q_BNTD.shape[2], k_BNSD.shape[2]
    if (
        min(queries, keys) < FEWEST
        or q_BNTD.shape[:2] != k_BNSD.shape[:2]
        or q_BNTD.dtype != torch.bfloat16
        or not computes(q_BNTD)
    ):
        return plain(q_BNTD, k_BNSD, v_BNSD)
    width = q_BNTD.shape[-1]
    k_BNSD, v_BNSW = k_BNSD * width**-0.5, F.pad(v_BNSD, (0, -width % _LANES))
    rows = min(queries, max(1, _SCORES // keys // _ROUNDED) * _ROUNDED)
    out_BNTD, scores_TS = torch.empty_like(q_BNTD), q_BNTD.new_empty(rows, keys)
    wide_TW = q_BNTD.new_empty(rows, v_BNSW.shape[-1])
    for row in zip(*(x.unbind() for x in (q_BNTD, k_BNSD, v_BNSW, out_BNTD)), strict=True):
        for q_TD, k_SD, v_SW, out_TD in zip(*(x.unbind() for x in row), strict=True):
            for part_TD, result_TD in zip(q_TD.split(rows), out_TD.split(rows), strict=True):
                part_TS, part_TW = scores_TS[: len(part_TD)], wide_TW[: len(part_TD)]
                torch.mm(part_TD, k_SD.T, out=part_TS)
                torch.softmax(part_TS, -1, out=part_TS)
                torch.mm(part_TS, v_SW, out=part_TW)
                result_TD.copy_(part_TW[:, :width])
    return out_BNTD
