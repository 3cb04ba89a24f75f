"""Group norm of float32 pictures with their channels last.

torch's own takes the mean of the squares less the square of the mean there: of numbers around 30 that leaves an error
of 8e-3. Here each piece of a picture has its squares summed around its own means, as torch does it for batch norms.

Shapes: B rows, S places (H W of a picture), P pieces of a row, C channels, G groups of D channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor

_PLACES = 256
"""Of a piece: a sum in float32 loses digits with its length, and what is read twice should be in the caches still."""


def group_norm(x_BCHW: Tensor, groups: int, weight_C: Tensor, bias_C: Tensor, eps: float) -> Tensor:
    """weight (x - mean) / sqrt(variance + eps) + bias, with mean and variance of each group (arXiv 1803.08494)."""
    mean_BG1, variance_BG1 = _moments(x_BCHW.permute(0, 2, 3, 1).flatten(1, 2), groups)
    scale_BGD = torch.rsqrt(variance_BG1 + eps) * weight_C.view(groups, -1)
    shift_BGD = bias_C.view(groups, -1) - mean_BG1 * scale_BGD
    scale_BC11, shift_BC11 = (made.to(x_BCHW).view(*x_BCHW.shape[:2], 1, 1) for made in (scale_BGD, shift_BGD))
    return torch.addcmul(shift_BC11, x_BCHW, scale_BC11)


def _moments(x_BSC: Tensor, groups: int) -> tuple[Tensor, Tensor]:
    """Mean and variance of the groups of each row, [B, G, 1] in float64."""
    rows, places, channels = x_BSC.shape
    pieces = [piece for x_SC in x_BSC.unbind() for piece in cast("Sequence[Tensor]", x_SC.split(_PLACES))]
    means_BPGD, variances_BPGD = (
        torch.stack(moments).double().view(rows, -1, groups, channels // groups)
        for moments in zip(*(torch.batch_norm_update_stats(piece, None, None, 0.0) for piece in pieces), strict=True)
    )
    sizes = [len(piece) for piece in pieces[: len(pieces) // rows]]
    share_P11 = torch.tensor(sizes, dtype=torch.float64).view(-1, 1, 1) / (places * channels // groups)
    mean_BG1 = (means_BPGD * share_P11).sum((1, 3))[..., None]
    spread_BPGD = variances_BPGD + (means_BPGD - mean_BG1[:, None]).square()
    return mean_BG1, (spread_BPGD * share_P11).sum((1, 3))[..., None]
