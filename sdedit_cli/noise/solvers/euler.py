"""Euler's method, its ancestral form, and Euler under EDM's preconditioning (Karras et al. 2022, arXiv 2206.00364)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..grid import Asked, Grid, closed, final_sigma, karras, ve_levels
from ..process import Process, denoised_ve
from .base import Solver, State, Step, always, ve_input


def _grid(process: Process, asked: Asked) -> Grid:
    process = process.clamped
    levels = ve_levels(process, asked)
    final = final_sigma(process) if asked.sigmas is None else asked.sigmas[-1]
    sigmas = closed(levels.sigmas, final)
    timesteps = torch.from_numpy(levels.timesteps).to(torch.float32)
    if process.config.timestep_type == "continuous" and process.config.prediction_type == "v_prediction":
        timesteps = 0.25 * sigmas[:-1].log()
    return Grid(timesteps, sigmas, asked.steps)


def _euler(step: Step, x: Tensor, output: Tensor, state: State) -> tuple[Tensor, State]:
    x = x.to(torch.float32)
    slope = (x - denoised_ve(step.config.prediction_type, x, output, step.sigma)) / step.sigma
    return (x + slope * (step.sigma_next - step.sigma)).to(output.dtype), state


def _ancestral(step: Step, x: Tensor, output: Tensor, state: State) -> tuple[Tensor, State]:
    """Down to a lower sigma than the next, then noise is added back up to it."""
    x, now, later = x.to(torch.float32), step.sigma, step.sigma_next
    slope = (x - denoised_ve(step.config.prediction_type, x, output, now)) / now
    up, down = ancestral(now, later)
    x = x + slope * (down - now) + step.draw() * up
    return x.to(output.dtype), state


def ancestral(now: Tensor, later: Tensor) -> tuple[Tensor, Tensor]:
    """(noise to add, sigma to go down to) so that the sum has sigma `later`."""
    up = (later**2 * (now**2 - later**2) / now**2) ** 0.5
    return up, (later**2 - up**2) ** 0.5


def _edm_grid(process: Process, asked: Asked) -> Grid:
    config, n = process.config, asked.steps
    assert config.sigma_min is not None
    assert config.sigma_max is not None
    ramp = torch.linspace(0, 1, n, dtype=torch.float64)
    if config.sigma_schedule == "exponential":
        sigmas = torch.linspace(math.log(config.sigma_min), math.log(config.sigma_max), n).exp().flip(0)
    else:
        sigmas: Tensor = karras(config.sigma_min, config.sigma_max, ramp, config.rho)
    sigmas = sigmas.to(torch.float32)
    final = sigmas[-1:] if config.final_sigmas_type == "sigma_min" else torch.zeros(1)
    return Grid(0.25 * torch.log(sigmas), torch.cat([sigmas, final]), n)


def _edm_input(step: Step, x: Tensor) -> Tensor:
    return x * (1 / ((step.sigma**2 + step.config.sigma_data**2) ** 0.5))


def _edm_predicted(step: Step, x: Tensor, output: Tensor) -> Tensor:
    sigma, data = step.sigma, step.config.sigma_data
    skip = data**2 / (sigma**2 + data**2)
    out = sigma * data / (sigma**2 + data**2) ** 0.5
    return skip * x + (-out if step.config.prediction_type == "v_prediction" else out) * output


def _edm(step: Step, x: Tensor, output: Tensor, state: State) -> tuple[Tensor, State]:
    x, sigma = x.to(torch.float32), step.sigma
    x0 = _edm_predicted(step, x, output)
    return (x + (x - x0) / sigma * (step.sigma_next - sigma)).to(output.dtype), state


EULER = Solver(
    "ve",
    _grid,
    _euler,
    scale_input=ve_input,
    predictions=("epsilon", "v_prediction", "sample", "original_sample"),
    custom=("timesteps", "sigmas"),
)
EULER_A = Solver("ve", _grid, _ancestral, draws=always, scale_input=ve_input, predictions=("epsilon", "v_prediction"))
EDM_EULER = Solver(
    "ve",
    _edm_grid,
    _edm,
    scale_input=_edm_input,
    predictions=("epsilon", "v_prediction"),
    predicted=_edm_predicted,
)
