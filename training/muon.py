"""Muon on the hidden matrices of networks: each step is orthogonalised, scaled as in arXiv 2502.16982, section 2.2.

Convolutions count as matrices of their outputs by all else. Several processes share the matrices and exchange them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from . import workers

APART = ("embedding", "conv_in", "conv_out")  # the first and last layers, which AdamW trains better


def is_hidden(name: str, parameter: nn.Parameter) -> bool:
    return parameter.dim() >= 2 and not any(part in name for part in APART)


def as_matrix(value: Tensor) -> Tensor:
    """[outputs, inputs]: of a convolution in channels-last layout, a view."""
    return value if value.dim() == 2 else value.permute(0, 2, 3, 1).flatten(1)


class Muon:
    """The state of those of `parameters` that this process steps."""

    def __init__(self, parameters: Sequence[nn.Parameter], rate: float, decay: float) -> None:
        # Largest first, dealt in turn, so that every process has about the same work.
        self.parameters = sorted(parameters, key=lambda p: -p.numel() * min(as_matrix(p).shape))
        self.own = self.parameters[workers.rank() :: workers.count()]
        self.matrices = [nn.Parameter(as_matrix(p.data)) for p in self.own]
        assert all(m.data_ptr() == p.data_ptr() for m, p in zip(self.matrices, self.own, strict=True))
        self.optimizer = torch.optim.Muon(
            self.matrices, rate, weight_decay=decay, momentum=0.95, adjust_lr_fn="match_rms_adamw"
        )

    def step(self, rate: float) -> None:
        for matrix, parameter in zip(self.matrices, self.own, strict=True):
            assert parameter.grad is not None
            matrix.grad = as_matrix(parameter.grad)
        self.optimizer.param_groups[0]["lr"] = rate
        self.optimizer.step()
        self.optimizer.zero_grad()
        workers.exchange(self.parameters)
