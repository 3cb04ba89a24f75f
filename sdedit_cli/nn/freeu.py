"""FreeU (arXiv 2309.11497): stronger backbone features and damped low frequencies of the skips, without training.

Shapes: B rows, C channels of the backbone, K channels of the skip, H W picture.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

fft = cast(Any, torch.fft)  # torch leaves this module untyped


@dataclass(frozen=True)
class FreeU:
    """Factors of the two lowest levels: `s1, s2` scale the skips' low frequencies, `b1, b2` the backbone."""

    s1: float
    s2: float
    b1: float
    b2: float

    def merge(self, level: int, x_BCHW: Tensor, skip_BKHW: Tensor) -> tuple[Tensor, Tensor]:
        """Backbone and skip of up block `level` (0 is the bottom) as they should be joined."""
        if level > 1:
            return x_BCHW, skip_BKHW
        backbone, skip = ((self.b1, self.s1), (self.b2, self.s2))[level]
        half = x_BCHW.shape[1] // 2
        x_BCHW = torch.cat([x_BCHW[:, :half] * backbone, x_BCHW[:, half:]], dim=1)
        return x_BCHW, scale_low_frequencies(skip_BKHW, skip)


def scale_low_frequencies(x_BCHW: Tensor, scale: float) -> Tensor:
    """`x` with the 2 x 2 lowest frequencies of each channel scaled (equation 5 with a threshold of 1)."""
    height, width = x_BCHW.shape[-2:]
    mask_HW = torch.ones(height, width, device=x_BCHW.device)
    row, column = height // 2, width // 2
    mask_HW[max(row - 1, 0) : row + 1, max(column - 1, 0) : column + 1] = scale
    # Half-precision transforms are missing or unstable.
    spectrum = fft.fftshift(fft.fftn(x_BCHW.float(), dim=(-2, -1)), dim=(-2, -1)) * mask_HW
    return fft.ifftn(fft.ifftshift(spectrum, dim=(-2, -1)), dim=(-2, -1)).real.to(x_BCHW.dtype)
