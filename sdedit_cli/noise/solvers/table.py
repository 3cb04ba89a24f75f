"""Solvers that work by training step: DDIM, DDPM, LCM, TCD."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ...configs.scheduler import PREDICTED_VARIANCES
from ...errors import UsageError
from ..grid import Asked, Grid, table_grid, table_nodes
from ..process import Process, denoised, limited, noise_of
from .base import Solver, State, Step


def _grid(process: Process, asked: Asked) -> Grid:
    return table_grid(process, table_nodes(process, asked), asked.steps)


def _ddim(step: Step, x: Tensor, output: Tensor, state: State) -> tuple[Tensor, State]:
    """Song et al. 2020 (arXiv 2010.02502), equations 12 and 16."""
    process, t = step.process, step.grid.nodes[step.i]
    now = process.alphas_cumprod[t]
    later = process.alpha_bar(t - step.config.num_train_timesteps // step.grid.num_inference_steps)
    kind, alpha, sigma = step.config.prediction_type, now**0.5, (1 - now) ** 0.5
    x0 = limited(step.config, denoised(kind, x, output, alpha, sigma))
    noise = noise_of(kind, x, output, alpha, sigma)
    variance = ((1 - later) / (1 - now)) * (1 - now / later)
    spread = step.eta * variance**0.5
    x = later**0.5 * x0 + (1 - later - spread**2) ** 0.5 * noise
    return (x + spread * step.draw(), state) if step.eta > 0 else (x, state)


def _ddpm(step: Step, x: Tensor, output: Tensor, state: State) -> tuple[Tensor, State]:
    """Ho et al. 2020 (arXiv 2006.11239), equations 6 and 7."""
    process, nodes = step.process, step.grid.nodes
    t, t_later = nodes[step.i], nodes[step.i + 1] if step.left > 1 else -1
    learned = None
    if step.config.variance_type in PREDICTED_VARIANCES:
        if output.shape[1] != 2 * x.shape[1]:
            raise UsageError(
                f"variance_type '{step.config.variance_type}' needs a model that predicts it; this doesn't"
            )
        output, learned = torch.split(output, x.shape[1], dim=1)
    now, later = process.alphas_cumprod[t], process.alpha_bar(t_later)
    alpha = now / later
    x0 = denoised(step.config.prediction_type, x, output, now**0.5, (1 - now) ** 0.5)
    x0 = limited(step.config, x0)
    mean = (later**0.5 * (1 - alpha)) / (1 - now) * x0 + alpha**0.5 * (1 - later) / (1 - now) * x
    if t <= 0:
        return mean, state
    return mean + _ddpm_spread(step.config.variance_type, now, later, learned) * step.draw(), state


def _ddpm_spread(kind: str | None, now: Tensor, later: Tensor, learned: Tensor | None) -> Tensor:
    beta = 1 - now / later
    small = torch.clamp((1 - later) / (1 - now) * beta, min=1e-20)
    if kind == "learned" and learned is not None:
        return learned**0.5
    if kind == "learned_range" and learned is not None:
        share = (learned + 1) / 2
        return torch.exp(0.5 * (share * torch.log(beta) + (1 - share) * torch.log(small)))
    if kind == "fixed_small_log":
        return torch.exp(0.5 * torch.log(small))
    if kind == "fixed_large":
        return beta**0.5
    # The reference takes the root of a logarithm here: not a number for every beta below 1, kept as such.
    return torch.log(beta) ** 0.5 if kind == "fixed_large_log" else small**0.5


def _distilled_grid(process: Process, asked: Asked) -> Grid:
    """Nodes out of the `original_inference_steps` that the student was distilled on."""
    config = process.config
    train, original = config.num_train_timesteps, config.original_inference_steps
    if asked.timesteps is not None:
        return _grid(process, asked)
    if not 0 < original <= train or asked.steps > original:
        raise UsageError(f"{asked.steps} steps are more than the {original} that this sampler was distilled on")
    ladder = (np.arange(1, original + 1) * (train // original) - 1)[::-1]
    chosen = np.floor(np.linspace(0, original, num=asked.steps, endpoint=False)).astype(np.int64)
    return table_grid(process, ladder[chosen].astype(np.int64), asked.steps)


def _lcm(step: Step, x: Tensor, output: Tensor, state: State) -> tuple[Tensor, State]:
    """Luo et al. 2023 (arXiv 2310.04378), algorithm 3."""
    process, config, timesteps = step.process, step.config, step.grid.timesteps
    t = timesteps[step.i]
    now, later = process.alphas_cumprod[t], process.alphas_cumprod[timesteps[step.i + 1] if step.left > 1 else t]
    scaled = t * config.timestep_scaling
    skip, out = 0.25 / (scaled**2 + 0.25), scaled / (scaled**2 + 0.25) ** 0.5
    x0 = limited(config, denoised(config.prediction_type, x, output, now.sqrt(), (1 - now).sqrt()))
    x = out * x0 + skip * x
    return (later.sqrt() * x + (1 - later).sqrt() * step.draw() if step.left > 1 else x), state


def _tcd(step: Step, x: Tensor, output: Tensor, state: State) -> tuple[Tensor, State]:
    """Zheng et al. 2024 (arXiv 2402.19159), strategic stochastic sampling; eta is their gamma."""
    process, timesteps = step.process, step.grid.timesteps
    if not 0 <= step.eta <= 1:
        raise UsageError(f"eta is {step.eta}, TCD takes 0 to 1")
    t_later = timesteps[step.i + 1] if step.left > 1 else torch.tensor(0)
    t_between = torch.floor((1 - step.eta) * t_later).to(torch.long)
    now, later, between = (process.alphas_cumprod[t] for t in (timesteps[step.i], t_later, t_between))
    kind, alpha, sigma = step.config.prediction_type, now.sqrt(), (1 - now).sqrt()
    x0, noise = denoised(kind, x, output, alpha, sigma), noise_of(kind, x, output, alpha, sigma)
    x = between.sqrt() * x0 + (1 - between).sqrt() * noise
    if step.eta > 0 and step.left > 1:
        x = (later / between).sqrt() * x + (1 - later / between).sqrt() * step.draw()
    return x, state


DDIM = Solver("table", _grid, _ddim, draws=lambda _process, _grid, _i, eta: eta > 0)
DDPM = Solver("table", _grid, _ddpm, draws=lambda _p, grid, i, _eta: grid.nodes[i] > 0, custom=("timesteps",))
LCM = Solver(
    "table", _distilled_grid, _lcm, draws=lambda _p, grid, i, _eta: i < len(grid.timesteps) - 1, custom=("timesteps",)
)
TCD = Solver(
    "table",
    _distilled_grid,
    _tcd,
    draws=lambda _p, grid, i, eta: eta > 0 and i < len(grid.timesteps) - 1,
    custom=("timesteps",),
)
