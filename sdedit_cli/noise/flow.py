"""Flow matching: shares of picture and noise that sum to one (arXiv 2210.02747, 2403.03206)."""

from __future__ import annotations

from torch import Tensor

from .variance_preserving import VariancePreserving


class FlowSigmas(VariancePreserving):
    """A table of training steps whose noise levels are read as flow matching reads them (`use_flow_sigmas`)."""

    def alpha_sigma(self, sigma: Tensor) -> tuple[Tensor, Tensor]:
        return 1 - sigma, sigma
