"""UniPC: a predictor, and a corrector that reuses the next model call (Zhao et al. 2023, arXiv 2302.04867)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor

from ...errors import UsageError
from ..grid import Array, Asked, Grid, Levels, final_sigma, shifted, vp_levels
from ..process import Process, denoised, limited, noise_of
from .base import Solver, State, Step
from .dpmpp import curved, flows, node, vp_grid


def _grid(process: Process, asked: Asked) -> Grid:
    process = process.clamped
    config = process.config
    if config.solver_p is not None or config.use_dynamic_shifting:
        raise UsageError("UniPC with another predictor (solver_p) or use_dynamic_shifting is not supported")
    if flows(process):
        levels = _flow(process, asked.steps)
    else:
        levels = vp_levels(process, asked)
        if config.use_flow_sigmas and config.use_karras_sigmas:
            sigmas = levels.sigmas / (levels.sigmas + 1)
            levels = Levels(sigmas * config.num_train_timesteps, sigmas, levels.log_table)
    last = final_sigma(process)
    if config.final_sigmas_type == "sigma_min" and (config.use_flow_sigmas or curved(process)):
        last = float(levels.sigmas[-1])
    return vp_grid(levels, last, asked.steps)


def _flow(process: Process, steps: int) -> Levels:
    config, train = process.config, process.config.num_train_timesteps
    sigmas: Array = shifted(config.flow_shift, np.linspace(1, 1 / train, steps + 1)[:-1])
    if config.shift_terminal:
        clean = 1 - sigmas
        sigmas = 1 - clean / (clean[-1] / (1 - config.shift_terminal))
    if abs(sigmas[0] - 1) < 1e-6:
        sigmas[0] -= 1e-6  # log(1 - sigma) must be finite
    return Levels(sigmas * train, sigmas, sigmas)


@dataclass(frozen=True, eq=False)
class _Memory:
    """Predictions so far, and the last predictor step: from which x, at which order."""

    past: tuple[Tensor, ...] = ()
    x: Tensor | None = None
    order: int = 0
    count: int = 0


def _predicted(step: Step, x: Tensor, output: Tensor) -> Tensor:
    config = step.config
    alpha, sigma = step.process.alpha_sigma(step.sigma)
    if not config.predict_x0:
        return noise_of(config.prediction_type, x, output, alpha, sigma)
    share = step.sigma if config.prediction_type == "flow_prediction" else sigma
    return limited(config, denoised(config.prediction_type, x, output, alpha, share))


def _update(step: Step, k: int, order: int, x: Tensor, past: tuple[Tensor, ...], ahead: Tensor | None) -> Tensor:
    """x carried from node `k` to `k + 1`: predicted from `past` predictions (at k, k - 1, ..), or corrected with the
    one at k + 1 (`ahead`)."""
    config, sigmas, m0 = step.config, step.grid.sigmas, past[-1]
    end, base = node(step.process, sigmas[k + 1]), node(step.process, sigmas[k])
    h = end.lam - base.lam
    lams = [node(step.process, sigmas[k - j]).lam for j in range(1, order)]
    shares = [(lam - base.lam) / h for lam in lams]
    differences = [(past[-j - 2] - m0) / share for j, share in enumerate(shares)]
    hh = -h if config.predict_x0 else h
    phi_1 = torch.expm1(hh)
    size = hh if config.solver_type == "bh1" else torch.expm1(hh)
    weights = _weights(torch.stack([*shares, torch.ones(())]), hh, size, order, corrects=ahead is not None)
    residual: Tensor | float = 0
    if differences:
        # Summed in float32 and rounded once, as a matrix product would.
        pairs = zip(weights.to(x.dtype).float(), differences, strict=False)
        residual = torch.stack([weight * difference.float() for weight, difference in pairs]).sum(dim=0).to(x.dtype)
    if ahead is not None:
        residual = residual + weights[-1].to(x.dtype) * (ahead - m0)
    carry, gain = (end.sigma / base.sigma, end.alpha) if config.predict_x0 else (end.alpha / base.alpha, end.sigma)
    return (carry * x - gain * phi_1 * m0 - gain * size * residual).to(x.dtype)


def _weights(shares: Tensor, hh: Tensor, size: Tensor, order: int, *, corrects: bool) -> Tensor:
    """Weights of the differences: the order conditions of theorem 3.1, or 1/2 where one is free."""
    if order == (1 if corrects else 2):
        return torch.ones(1) * 0.5
    phi, factorial = torch.expm1(hh) / hh - 1, 1
    rows: list[Tensor] = []
    targets: list[Tensor] = []
    for k in range(1, order + 1):
        rows.append(torch.pow(shares, k - 1))
        targets.append(phi * factorial / size)
        factorial *= k + 1
        phi = phi / hh - 1 / factorial
    matrix, target = torch.stack(rows), torch.stack(targets)
    keep = order if corrects else order - 1
    # Infinite steps (final sigma 0 at full order) make it singular: not a number then, rather than an exception.
    return cast("Tensor", torch.linalg.solve_ex(matrix[:keep, :keep], target[:keep])[0])


def _unipc(step: Step, x: Tensor, output: Tensor, state: State) -> tuple[Tensor, State]:
    config, i = step.config, step.i
    memory: _Memory = state
    m = _predicted(step, x, output)
    if memory.x is not None and i - 1 not in config.disable_corrector:
        x = _update(step, i - 1, memory.order, memory.x, memory.past, m)
    past = (*memory.past, m)[-max(config.solver_order, 2) :]
    order = min(config.solver_order, memory.count + 1, step.left if config.lower_order_final else config.solver_order)
    later = _update(step, i, order, x, past, None)
    return later, _Memory(past, x, order, memory.count + 1)


UNIPC = Solver(
    "vp",
    _grid,
    _unipc,
    start=lambda _process, _grid, _x, _seed: _Memory(),
    predictions=("epsilon", "v_prediction", "sample", "flow_prediction"),
    divides=True,
)
