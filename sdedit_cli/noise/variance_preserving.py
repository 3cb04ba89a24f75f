"""Variance preserving diffusion: how much picture and how much noise there is at each training step.

Tables are float32 on the CPU and are built in a fixed order of operations, since the trajectories of all solvers
are compared bit by bit with the reference (docs/numerics.md).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..configs.scheduler import SchedulerConfig


@dataclass(frozen=True, eq=False)
class VariancePreserving:
    """x_t = sqrt(a_t) x_0 + sqrt(1 - a_t) noise, a_t = `alphas_cumprod[t]`."""

    config: SchedulerConfig
    alphas_cumprod: Tensor
    """[num_train_timesteps], float32 on the CPU, falling."""

    @classmethod
    def of(cls, config: SchedulerConfig) -> VariancePreserving:
        """The process that the checkpoint was trained on."""
        betas = _betas(config)
        if config.rescale_betas_zero_snr:
            betas = _zero_terminal_snr(betas)
        return cls(config, torch.cumprod(1.0 - betas, dim=0))

    @property
    def clamped(self) -> VariancePreserving:
        """This process with a finite last sigma, for solvers that work in sigma: with zero terminal SNR it would be
        infinite; 2^-24 is the smallest float16."""
        if not self.config.rescale_betas_zero_snr:
            return self
        table = self.alphas_cumprod.clone()
        table[-1] = 2**-24
        return replace(self, alphas_cumprod=table)

    @property
    def sigmas(self) -> Tensor:
        """[num_train_timesteps] noise to signal ratio sqrt((1 - a) / a), rising."""
        return ((1 - self.alphas_cumprod) / self.alphas_cumprod) ** 0.5

    def alpha_bar(self, t: int) -> Tensor:
        """0-d `alphas_cumprod[t]`; before the first training step, 1 or (`set_alpha_to_one` false) that of step 0."""
        if t >= 0:
            return self.alphas_cumprod[t]
        return torch.tensor(1.0) if self.config.set_alpha_to_one else self.alphas_cumprod[0]

    def alpha_sigma(self, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """(share of picture, share of noise) at a noise to signal ratio."""
        alpha = 1 / ((sigma**2 + 1) ** 0.5)
        return alpha, sigma * alpha


def _betas(config: SchedulerConfig) -> Tensor:
    if config.trained_betas is not None:
        return torch.tensor(config.trained_betas, dtype=torch.float32)
    return BETA_SCHEDULES[config.beta_schedule](config.beta_start, config.beta_end, config.num_train_timesteps)


def _linear(start: float, end: float, n: int) -> Tensor:
    return torch.linspace(start, end, n, dtype=torch.float32)


def _sigmoid(start: float, end: float, n: int) -> Tensor:
    return torch.sigmoid(torch.linspace(-6, 6, n)) * (end - start) + start


def _cosine_bar(t: float) -> float:
    """Nichol & Dhariwal 2021 (arXiv 2102.09672), equation 17."""
    return math.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2


def _laplace_bar(t: float) -> float:
    """Hang et al. 2024 (arXiv 2407.03297): the log SNR is Laplace distributed."""
    log_snr = -0.5 * math.copysign(1, 0.5 - t) * math.log(1 - 2 * math.fabs(0.5 - t) + 1e-6)
    snr = math.exp(log_snr)
    return math.sqrt(snr / (1 + snr))


def _from_bar(bar: Callable[[float], float]) -> Callable[[float, float, int], Tensor]:
    def betas(_start: float, _end: float, n: int) -> Tensor:
        steps = (min(1 - bar((i + 1) / n) / bar(i / n), 0.999) for i in range(n))
        return torch.tensor(list(steps), dtype=torch.float32)

    return betas


BETA_SCHEDULES: dict[str, Callable[[float, float, int], Tensor]] = {
    "linear": _linear,
    "scaled_linear": lambda start, end, n: _linear(start**0.5, end**0.5, n) ** 2,
    "squaredcos_cap_v2": _from_bar(_cosine_bar),
    "sigmoid": _sigmoid,
    "laplace": _from_bar(_laplace_bar),
    "exp": _from_bar(lambda t: math.exp(t * -12.0)),
}


def _zero_terminal_snr(betas: Tensor) -> Tensor:
    """Lin et al. 2023 (arXiv 2305.08891), algorithm 1: the last step becomes pure noise, the first stays."""
    roots = torch.cumprod(1.0 - betas, dim=0).sqrt()
    first, last = roots[0].clone(), roots[-1].clone()
    roots = (roots - last) * (first / (first - last))
    bars = roots**2
    return 1 - torch.cat([bars[:1], bars[1:] / bars[:-1]])
