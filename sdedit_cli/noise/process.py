"""What a process is, which one a config describes, and what a model's output says of the picture under it."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from ..configs.scheduler import SchedulerConfig
from .flow import FlowSigmas
from .variance_preserving import VariancePreserving


class Process(Protocol):
    """How picture turns into noise; `VariancePreserving` says what each of these is."""

    @property
    def config(self) -> SchedulerConfig: ...
    @property
    def alphas_cumprod(self) -> Tensor: ...
    @property
    def sigmas(self) -> Tensor: ...
    @property
    def clamped(self) -> Process: ...
    def alpha_bar(self, t: int) -> Tensor: ...
    def alpha_sigma(self, sigma: Tensor) -> tuple[Tensor, Tensor]: ...


def process_of(config: SchedulerConfig) -> Process:
    """The process that the checkpoint was trained on."""
    return (FlowSigmas if config.use_flow_sigmas else VariancePreserving).of(config)


def denoised(kind: str, x: Tensor, output: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """The predicted x_0, from x = alpha x_0 + sigma noise and what the model was trained to say."""
    if kind == "epsilon":
        return (x - sigma * output) / alpha
    if kind == "v_prediction":
        return alpha * x - sigma * output
    if kind == "flow_prediction":
        return x - sigma * output
    return output


def noise_of(kind: str, x: Tensor, output: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """The predicted noise, likewise."""
    if kind == "epsilon":
        return output
    if kind == "v_prediction":
        return alpha * output + sigma * x
    return (x - alpha * output) / sigma


def denoised_ve(kind: str, x: Tensor, output: Tensor, sigma: Tensor) -> Tensor:
    """The predicted x_0 where x = x_0 + sigma noise (Karras et al. 2022, arXiv 2206.00364)."""
    if kind == "epsilon":
        return x - sigma * output
    if kind == "v_prediction":
        return output * (-sigma / (sigma**2 + 1) ** 0.5) + (x / (sigma**2 + 1))
    return output


def limited(config: SchedulerConfig, x0: Tensor) -> Tensor:
    """x_0 kept in range as the config says: dynamic thresholding (Imagen, arXiv 2205.11487) or clipping."""
    if config.thresholding:
        wide = x0 if x0.dtype in (torch.float32, torch.float64) else x0.float()
        rows = wide.reshape(wide.shape[0], -1)
        bound = torch.quantile(rows.abs(), config.dynamic_thresholding_ratio, dim=1)
        bound = torch.clamp(bound, min=1, max=config.sample_max_value).unsqueeze(1)
        return (torch.clamp(rows, -bound, bound) / bound).reshape(x0.shape).to(x0.dtype)
    if config.clip_sample:
        return x0.clamp(-config.clip_sample_range, config.clip_sample_range)
    return x0
