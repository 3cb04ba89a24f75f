"""Solvers that call the model twice a step: Heun, KDPM2 (midpoint in log sigma) and its ancestral form.

Even nodes are whole steps, odd ones the second call; `state` is what the first call left behind.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from ..grid import Array, Asked, Grid, Levels, closed, timesteps_of, ve_levels
from ..process import Process, denoised_ve, limited
from .base import Solver, State, Step, ve_input
from .euler import ancestral


def doubled(values: Tensor) -> Tensor:
    """Every entry but the first twice."""
    return torch.cat([values[:1], values[1:].repeat_interleave(2)])


def _heun_grid(process: Process, asked: Asked) -> Grid:
    levels = ve_levels(process, asked)
    timesteps = doubled(torch.from_numpy(levels.timesteps)).to(torch.float32)
    # With custom timesteps the reference takes the strength of all nodes, second calls included.
    steps = asked.steps if asked.timesteps is None else len(timesteps)
    return Grid(timesteps, doubled(closed(levels.sigmas, 0.0))[:-1], steps, order=2)


def _heun(step: Step, x: Tensor, output: Tensor, state: State) -> tuple[Tensor, State]:
    """Karras et al. 2022 (arXiv 2206.00364), algorithm 1: the mean of the slopes at both ends."""
    x0 = limited(step.config, denoised_ve(step.config.prediction_type, x, output, step.sigma))
    slope = (x - x0) / step.sigma
    if step.i % 2 == 0:
        return x + slope * (step.sigma_next - step.sigma), (x, slope)
    x_before, slope_before = state
    dt = step.sigma - step.grid.sigmas[step.i - 1]
    return x_before + (slope_before + slope) / 2 * dt, ()


def _interleaved(levels: Levels, mids: Tensor) -> Tensor:
    """The first whole step, then a second call and a whole step in turn."""
    whole = torch.from_numpy(levels.timesteps)
    between: Array = timesteps_of(mids.numpy(), levels.log_table, np.float32)
    pairs = torch.stack([torch.from_numpy(between).to(whole.dtype), whole[1:]], dim=-1)
    return torch.cat([whole[:1], pairs.flatten()])


def _kdpm2_grid(process: Process, asked: Asked) -> Grid:
    levels = ve_levels(process, asked, round_karras=True)
    sigmas = closed(levels.sigmas, 0.0)
    mids = sigmas.log().lerp(sigmas.roll(1).log(), 0.5).exp()
    return Grid(_interleaved(levels, mids[1:-1]), doubled(sigmas), asked.steps, order=2, mids=doubled(mids)[1:])


def _kdpm2_a_grid(process: Process, asked: Asked) -> Grid:
    levels = ve_levels(process, asked, round_karras=True)
    sigmas = closed(levels.sigmas, 0.0)
    ups, downs = ancestral(sigmas, torch.cat([sigmas[1:], torch.zeros(1)]))
    mids = sigmas.log().lerp(downs.log(), 0.5).exp()
    mids[-2:] = 0.0
    grid = Grid(_interleaved(levels, mids[:-2]), doubled(sigmas), asked.steps, order=2, mids=doubled(mids))
    return replace(grid, ups=doubled(ups), downs=doubled(downs))


def _mid(step: Step) -> Tensor:
    """Sigma of the second call of the pair that step `i` belongs to."""
    assert step.grid.mids is not None
    return step.grid.mids[step.i // 2 * 2]


def _kdpm2_input(step: Step, x: Tensor) -> Tensor:
    return ve_input(step, x) if step.i % 2 == 0 else x / ((_mid(step) ** 2 + 1) ** 0.5)


def _kdpm2(step: Step, x: Tensor, output: Tensor, state: State) -> tuple[Tensor, State]:
    """Algorithm 2 of the same paper without churn: the slope at the middle carries the whole step."""
    mid = _mid(step)
    if step.i % 2 == 0:
        slope = (x - denoised_ve(step.config.prediction_type, x, output, step.sigma)) / step.sigma
        return x + slope * (mid - step.sigma), x
    slope = (x - denoised_ve(step.config.prediction_type, x, output, mid)) / mid
    start = step.grid.sigmas[step.i - 1]
    if step.grid.downs is None or step.grid.ups is None:
        return state + slope * (step.sigma - start), ()
    x = state + slope * (step.grid.downs[step.i - 1] - start)
    return x + step.draw() * step.grid.ups[step.i - 1], ()


HEUN = Solver("ve", _heun_grid, _heun, scale_input=ve_input, order=2, custom=("timesteps",))
KDPM2 = Solver("ve", _kdpm2_grid, _kdpm2, scale_input=_kdpm2_input, order=2, predictions=("epsilon", "v_prediction"))
KDPM2_A = Solver(
    "ve",
    _kdpm2_a_grid,
    _kdpm2,
    draws=lambda _process, _grid, i, _eta: i % 2 == 1,
    scale_input=_kdpm2_input,
    order=2,
    predictions=("epsilon", "v_prediction"),
)
