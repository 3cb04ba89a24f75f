"""DPM++ SDE: the stochastic single-step solver of k-diffusion, order 2, with noise from a Brownian tree.

The tree is a path of Brownian motion over sigma: the same seed gives the same path whatever the steps are.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..grid import Array, Asked, Grid, closed, timesteps_of, ve_levels
from ..process import Process, denoised_ve
from .base import Solver, State, Step
from .second_order import doubled


def _grid(process: Process, asked: Asked) -> Grid:
    levels = ve_levels(process, asked, dtype=np.float64)
    timesteps = doubled(torch.from_numpy(levels.timesteps))
    logs: Array = -np.log(levels.sigmas)
    middles: Array = np.exp(-(logs[:-1] + np.diff(logs) * 0.5))
    timesteps[1::2] = torch.from_numpy(timesteps_of(middles, levels.log_table))
    return Grid(timesteps, doubled(closed(levels.sigmas, 0.0))[:-1], asked.steps, order=2)


@dataclass(frozen=True, eq=False)
class _Path:
    """A Brownian path for the whole of x, or one a row; a pure function of its seeds."""

    trees: tuple[Any, ...]
    rows: bool

    def unit_noise(self, sigma: Tensor, sigma_next: Tensor) -> Tensor:
        """The path's increment from sigma down to sigma_next, scaled to unit variance."""
        with warnings.catch_warnings():
            # exp(log(sigma)) may leave the tree by a bit: it clamps, which is right, and warns.
            warnings.simplefilter("ignore")
            increments = torch.stack([tree(sigma_next, sigma) for tree in self.trees]) * -1.0
        return (increments if self.rows else increments[0]) / (sigma_next - sigma).abs().sqrt()


@dataclass(frozen=True, eq=False)
class _Memory:
    path: _Path
    x: Tensor | None = None


def _start(process: Process, grid: Grid, x: Tensor, seed: int | Sequence[int] | None) -> State:
    import torchsde

    chosen = seed if process.config.noise_sampler_seed is None else process.config.noise_sampler_seed
    if chosen is None:
        chosen = int(torch.randint(0, 2**63 - 1, []).item())
    rows = not isinstance(chosen, int)
    low, high = grid.sigmas[grid.sigmas > 0].min(), grid.sigmas.max()
    size = tuple(x.shape[1:] if rows else x.shape)
    trees = tuple(
        torchsde.BrownianInterval(
            t0=low,
            t1=high,
            size=size,
            dtype=x.dtype,
            device=x.device,
            entropy=entropy,
            tol=1e-6,
            pool_size=24,
            halfway_tree=True,
        )
        for entropy in ([chosen] if isinstance(chosen, int) else chosen)
        if low < high  # a run of one step draws nothing
    )
    return _Memory(_Path(trees, rows))


def _log(sigma: Tensor) -> Tensor:
    return sigma.log().neg()


def _exp(t: Tensor) -> Tensor:
    return t.neg().exp()


def _middle(step: Step) -> tuple[Tensor, Tensor, Tensor]:
    """-log sigma at the start, the middle and the end of the pair of calls that step `i` belongs to."""
    first = step.i // 2 * 2
    start, end = _log(step.grid.sigmas[first]), _log(step.grid.sigmas[first + 1])
    return start, start + (end - start) * 0.5, end


def _input(step: Step, x: Tensor) -> Tensor:
    sigma = step.sigma if step.i % 2 == 0 else _exp(_middle(step)[1])
    return x / ((sigma**2 + 1) ** 0.5)


def _sde(step: Step, x: Tensor, output: Tensor, state: State) -> tuple[Tensor, State]:
    memory: _Memory = state
    second = step.i % 2 == 1
    t, t_middle, t_end = _middle(step)
    sigma = _exp(t_middle) if second else step.sigma
    x0 = denoised_ve(step.config.prediction_type, x, output, sigma)
    if not second and float(step.sigma_next) == 0:
        return x + (x - x0) / sigma * (step.sigma_next - sigma), state
    x_start = x if memory.x is None else memory.x
    t_to = t_end if second else t_middle
    source, target = _exp(t), _exp(t_to)
    up = min(target, (target**2 * (source**2 - target**2) / source**2) ** 0.5)
    t_down = _log((target**2 - up**2) ** 0.5)
    later = (_exp(t_down) / source) * x_start - (t - t_down).expm1() * x0
    later = later + memory.path.unit_noise(source, target) * up
    return later, _Memory(memory.path, None if second else x)


DPMPP_SDE = Solver(
    "ve",
    _grid,
    _sde,
    start=_start,
    scale_input=_input,
    order=2,
    predictions=("epsilon", "v_prediction"),
    divides=True,
)
