"""DEIS: polynomials in log rho (Zhang & Chen 2022, arXiv 2204.13902), rho = sigma / alpha."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..grid import Asked, Grid, flow_levels, vp_levels
from ..process import Process, denoised, limited
from .base import Solver, State, Step
from .dpmpp import curved, flows, node, vp_grid


def _grid(process: Process, asked: Asked) -> Grid:
    flow = flows(process)
    levels = flow_levels(process.config, asked.steps) if flow else vp_levels(process, asked)
    last = float(levels.sigmas[-1]) if flow or curved(process) else float(process.sigmas[0])
    return vp_grid(levels, last, asked.steps)


def _log(value: Tensor) -> Tensor:
    # numpy's logarithm, as the reference takes it: torch's differs in the last bit.
    return torch.tensor(np.log(value.numpy()))


def _second(t: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """Antiderivative at t of the linear Lagrange polynomial in log rho, 1 at b and 0 at c."""
    return t * (-_log(c) + _log(t) - 1) / (_log(b) - _log(c))


def _third(t: Tensor, b: Tensor, c: Tensor, d: Tensor) -> Tensor:
    """The same for the quadratic one, 0 at c and d."""
    top = t * (_log(c) * (_log(d) - _log(t) + 1) - _log(d) * _log(t) + _log(d) + _log(t) ** 2 - 2 * _log(t) + 2)
    return top / ((_log(b) - _log(c)) * (_log(b) - _log(d)))


def _deis(step: Step, x: Tensor, output: Tensor, state: State) -> tuple[Tensor, State]:
    config, process, grid, i = step.config, step.process, step.grid, step.i
    end, now = node(process, step.sigma_next), node(process, step.sigma)
    share = step.sigma if config.prediction_type == "flow_prediction" else now.sigma
    x0 = limited(config, denoised(config.prediction_type, x, output, now.alpha, share))
    past: tuple[Tensor, ...] = (*state, (x - now.alpha * x0) / now.sigma)[-max(config.solver_order, 2) :]
    short = config.lower_order_final and len(grid.timesteps) < 15
    order = min(config.solver_order, len(past), step.left if short else 3)
    if order == 1:
        h = end.lam - now.lam
        return (end.alpha / now.alpha) * x - (end.sigma * (torch.exp(h) - 1.0)) * past[-1], past
    levels = [node(process, grid.sigmas[i - k]) for k in range(order)]
    rho_end, rhos = end.sigma / end.alpha, [level.sigma / level.alpha for level in levels]
    total = x / now.alpha
    for k in range(order):
        turned = (*rhos[k:], *rhos[:k])
        integral = _second if order == 2 else _third
        total = total + (integral(rho_end, *turned) - integral(rhos[0], *turned)) * past[-k - 1]
    return end.alpha * total, past


DEIS = Solver("vp", _grid, _deis, predictions=("epsilon", "v_prediction", "sample", "flow_prediction"), divides=True)
