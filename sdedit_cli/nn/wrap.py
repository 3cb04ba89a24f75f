"""Pictures whose opposite edges meet: convolutions that see one edge behind the other, so that a texture has no seam.

Shapes: B rows, C channels, H W picture.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

Wrap = tuple[bool, bool]
"""Whether the left and right edges meet, and the upper and lower ones."""

NONE: Wrap = (False, False)


def pad(x_BCHW: Tensor, sides: tuple[int, int, int, int], wrap: Wrap) -> Tensor:
    """`x` with so many more places at its left, right, upper and lower edge: of the other edge where an axis wraps,
    else zero. No side is longer than the picture."""
    for dim, wraps, before, after in ((-1, wrap[0], *sides[:2]), (-2, wrap[1], *sides[2:])):
        if not before and not after:
            continue
        if wraps:
            length = x_BCHW.shape[dim]
            ends = (x_BCHW.narrow(dim, length - before, before), x_BCHW, x_BCHW.narrow(dim, 0, after))
            x_BCHW = torch.cat(ends, dim)
        else:
            x_BCHW = F.pad(x_BCHW, (before, after) if dim == -1 else (0, 0, before, after))
    return x_BCHW
