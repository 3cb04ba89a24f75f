"""Deep features that are used again (DeepCache, arXiv 2312.00858): from one step to the next they change little.

Shapes: B rows, C channels, H W latent picture.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(eq=False)
class Deep:
    """What enters the last layer of the way up. None: the UNet computes all of itself, and puts it here."""

    x_BCHW: Tensor | None = None
