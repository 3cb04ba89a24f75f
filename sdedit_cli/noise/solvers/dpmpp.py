"""DPM-Solver and DPM-Solver++ (Lu et al. 2022, arXiv 2206.00927 and 2211.01095), multistep and singlestep, ODE and SDE.

All are one exponential integrator: x is scaled to the next node, and the model's prediction m enters with the weight
`w0` and its first and second divided differences with `w1` and `w2`. The data-prediction forms (++) run on x_0, the
others on the noise. h is the step in lambda = log(alpha / sigma).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ...configs.scheduler import PREDICTED_VARIANCES
from ...errors import UsageError
from ..grid import Asked, Grid, Levels, closed, final_sigma, flow_levels, vp_levels
from ..process import Process, denoised, limited, noise_of
from .base import Solver, State, Step


@dataclass(frozen=True, eq=False)
class Node:
    """A noise level as the share of picture and of noise, and lambda."""

    alpha: Tensor
    sigma: Tensor
    lam: Tensor


def node(process: Process, sigma: Tensor) -> Node:
    alpha, noise = process.alpha_sigma(sigma)
    return Node(alpha, noise, torch.log(alpha) - torch.log(noise))


def first_usable(process: Process) -> int:
    """How many training steps remain when those with lambda under `lambda_min_clipped` are left out."""
    alphas = process.alphas_cumprod
    lambdas = torch.log(torch.sqrt(alphas)) - torch.log(torch.sqrt(1 - alphas))
    clipped = torch.searchsorted(torch.flip(lambdas, [0]), process.config.lambda_min_clipped)
    return process.config.num_train_timesteps - int(clipped)


def _grid(process: Process, asked: Asked, *, rounds: bool = True, orders: tuple[int, ...] = ()) -> Grid:
    if flows(process):
        levels = flow_levels(process.config, asked.steps)
    else:
        levels = vp_levels(process, asked, last=first_usable(process), rounds=rounds)
    return vp_grid(levels, final_sigma(process), asked.steps, orders)


def vp_grid(levels: Levels, last: float, steps: int, orders: tuple[int, ...] = ()) -> Grid:
    """The grid over these levels and the `last` sigma."""
    return Grid(torch.from_numpy(levels.timesteps).to(torch.int64), closed(levels.sigmas, last), steps, orders=orders)


def _multistep_grid(process: Process, asked: Asked) -> Grid:
    return _grid(process.clamped, asked, rounds=process.config.beta_schedule != "squaredcos_cap_v2")


def flows(process: Process) -> bool:
    """Whether the levels are flow matching's own: a curve goes before."""
    return process.config.use_flow_sigmas and not curved(process)


def curved(process: Process) -> bool:
    """Whether the levels follow a curve."""
    config = process.config
    return config.use_karras_sigmas or config.use_exponential_sigmas or config.use_beta_sigmas or config.use_lu_lambdas


def converted(step: Step, x: Tensor, output: Tensor) -> Tensor:
    """The model's prediction in the solver's terms: x_0 for the ++ forms, noise for the others."""
    config = step.config
    alpha, sigma = step.process.alpha_sigma(step.sigma)
    if config.variance_type in PREDICTED_VARIANCES:
        output = output[:, : x.shape[1]]
    if config.algorithm_type.endswith("++"):
        share = step.sigma if config.prediction_type == "flow_prediction" else sigma
        return limited(config, denoised(config.prediction_type, x, output, alpha, share))
    noise = noise_of(config.prediction_type, x, output, alpha, sigma)
    if not config.thresholding:
        return noise
    return (x - alpha * limited(config, (x - sigma * noise) / alpha)) / sigma


def _base(kind: str, base: Node, end: Node, h: Tensor, x: Tensor, m: Tensor) -> Tensor:
    """First order: x carried from `base` to `end`, and the prediction."""
    if kind == "dpmsolver++":
        return (end.sigma / base.sigma) * x - (end.alpha * (torch.exp(-h) - 1.0)) * m
    if kind == "dpmsolver":
        return (end.alpha / base.alpha) * x - (end.sigma * (torch.exp(h) - 1.0)) * m
    if kind == "sde-dpmsolver++":
        return (end.sigma / base.sigma * torch.exp(-h)) * x + (end.alpha * (1 - torch.exp(-2.0 * h))) * m
    return (end.alpha / base.alpha) * x - 2.0 * (end.sigma * (torch.exp(h) - 1.0)) * m


def _midpoint(kind: str, end: Node, h: Tensor) -> Tensor:
    """Weight of the first difference, Taylor of the previous node."""
    if kind == "dpmsolver++":
        return -(0.5 * (end.alpha * (torch.exp(-h) - 1.0)))
    if kind == "dpmsolver":
        return -(0.5 * (end.sigma * (torch.exp(h) - 1.0)))
    if kind == "sde-dpmsolver++":
        return 0.5 * (end.alpha * (1 - torch.exp(-2.0 * h)))
    return -(end.sigma * (torch.exp(h) - 1.0))


def _heun(kind: str, end: Node, h: Tensor) -> Tensor:
    """Weight of the first difference, exact integral."""
    if kind == "dpmsolver++":
        return end.alpha * ((torch.exp(-h) - 1.0) / h + 1.0)
    if kind == "dpmsolver":
        return -(end.sigma * ((torch.exp(h) - 1.0) / h - 1.0))
    if kind == "sde-dpmsolver++":
        return end.alpha * ((1.0 - torch.exp(-2.0 * h)) / (-2.0 * h) + 1.0)
    return -(2.0 * (end.sigma * ((torch.exp(h) - 1.0) / h - 1.0)))


def _second(kind: str, end: Node, h: Tensor) -> Tensor:
    """Weight of the second difference."""
    if kind == "dpmsolver++":
        return -(end.alpha * ((torch.exp(-h) - 1.0 + h) / h**2 - 0.5))
    if kind == "dpmsolver":
        return -(end.sigma * ((torch.exp(h) - 1.0 - h) / h**2 - 0.5))
    double = 2.0 * h
    return end.alpha * ((1.0 - torch.exp(-double) - double) / double**2 - 0.5)


def _shaken(step: Step, end: Node, h: Tensor, x: Tensor) -> Tensor:
    """x with the noise of the SDE forms."""
    kind = step.config.algorithm_type
    if not kind.startswith("sde"):
        return x
    gain = torch.sqrt(1.0 - torch.exp(-2 * h)) if kind.endswith("++") else torch.sqrt(torch.exp(2 * h) - 1.0)
    return x + end.sigma * gain * step.draw()


def _order(step: Step, seen: int) -> int:
    """Order of a multistep step after `seen` others: low at the start, and at the end of short runs."""
    config, short = step.config, step.config.lower_order_final and len(step.grid.timesteps) < 15
    if step.left == 1 and (config.euler_at_final or short or config.final_sigmas_type == "zero"):
        return 1
    return min(config.solver_order, seen + 1, 2 if step.left == 2 and short else 3)


def _multistep(step: Step, x: Tensor, output: Tensor, state: State) -> tuple[Tensor, State]:
    config, kind, grid = step.config, step.config.algorithm_type, step.grid
    past: tuple[Tensor, ...] = state
    m = converted(step, x, output)
    order, x = _order(step, len(past)), x.to(torch.float32)
    end, now = node(step.process, step.sigma_next), node(step.process, step.sigma)
    h = end.lam - now.lam
    y = _base(kind, now, end, h, x, m)
    if order > 1:
        h0 = now.lam - node(step.process, grid.sigmas[step.i - 1]).lam
        r0 = h0 / h
        d1 = (1.0 / r0) * (m - past[-1])
        if order == 2:
            y = y + (_midpoint if config.solver_type == "midpoint" else _heun)(kind, end, h) * d1
        else:
            before = [node(step.process, grid.sigmas[step.i - k]).lam for k in (1, 2)]
            r1 = (before[0] - before[1]) / h
            d1_before = (1.0 / r1) * (past[-1] - past[-2])
            slope = d1 + (r0 / (r0 + r1)) * (d1 - d1_before)
            bend = (1.0 / (r0 + r1)) * (d1 - d1_before)
            y = y + _heun(kind, end, h) * slope + _second(kind, end, h) * bend
    y = _shaken(step, end, h, y)
    return y.to(m.dtype), (*past, m)[-max(config.solver_order - 1, 1) :]


def _orders(process: Process, steps: int) -> tuple[int, ...]:
    """Orders of a singlestep run: blocks of 1, 2, .. `solver_order`, each block ending at its full order."""
    config, order = process.config, process.config.solver_order
    uneven = steps % order != 0
    block = list(range(1, order + 1))
    if config.lower_order_final or uneven or config.final_sigmas_type == "zero":
        # The last steps are of lower order, so that the very last is of order 1.
        blocks, rest = divmod(steps, order)
        orders = block * (blocks - 1) + block[:-1] + [1] if not rest and order > 1 else block * blocks + block[:rest]
    else:
        orders = block * (steps // order)
    if config.final_sigmas_type == "zero":
        orders[-1] = 1
    return tuple(orders)


def _singlestep_grid(process: Process, asked: Asked) -> Grid:
    config = process.config
    if config.algorithm_type == "dpmsolver" and config.thresholding:
        raise UsageError("thresholding needs algorithm_type 'dpmsolver++' in the singlestep solver")
    if config.algorithm_type == "sde-dpmsolver":
        raise UsageError("the singlestep solver has no 'sde-dpmsolver'; use 'sde-dpmsolver++'")
    return _grid(process, asked, orders=_orders(process, asked.steps))


@dataclass(frozen=True, eq=False)
class _Block:
    """Predictions so far, and x at the start of the block of steps that the solver is in."""

    past: tuple[Tensor, ...] = ()
    x: Tensor | None = None


def _singlestep(step: Step, x: Tensor, output: Tensor, state: State) -> tuple[Tensor, State]:
    config, kind = step.config, step.config.algorithm_type
    m = converted(step, x, output)
    past = (*state.past, m)[-config.solver_order :]
    order = min(step.grid.orders[step.i], len(past))
    x = x if order == 1 else state.x
    end = node(step.process, step.sigma_next)
    base = node(step.process, step.grid.sigmas[step.i - order + 1])
    h = end.lam - base.lam
    y = _base(kind, base, end, h, x, past[-order])
    # (difference to the block's first prediction) per (distance in lambda, as a share of h)
    inner = [node(step.process, step.grid.sigmas[step.i - k]).lam - base.lam for k in range(order - 1)]
    shares = [length / h for length in inner]
    slopes = [1.0 / share * (past[-k - 1] - past[-order]) for k, share in enumerate(shares)]
    if order == 2:
        y = y + (_midpoint if config.solver_type == "midpoint" else _heun)(kind, end, h) * slopes[0]
    elif order == 3 and config.solver_type == "midpoint":
        y = y + _heun(kind, end, h) * slopes[0]
    elif order == 3:
        (r0, r1), (d_far, d_near) = shares, slopes
        slope = (r0 * d_near - r1 * d_far) / (r0 - r1)
        bend = 2.0 * (d_far - d_near) / (r0 - r1)
        y = y + _heun(kind, end, h) * slope + _second(kind, end, h) * bend
    return _shaken(step, end, h, y), _Block(past, x)


def _draws(process: Process, _grid: Grid, _i: int, _eta: float) -> bool:
    return process.config.algorithm_type.startswith("sde")


_PREDICTIONS = ("epsilon", "v_prediction", "sample", "flow_prediction")
DPMPP_2M = Solver(
    "vp",
    _multistep_grid,
    _multistep,
    draws=_draws,
    predictions=_PREDICTIONS,
    custom=("timesteps",),
    draws_float32=True,
    divides=True,
)
DPMPP_2S = Solver(
    "vp",
    _singlestep_grid,
    _singlestep,
    draws=_draws,
    start=lambda _process, _grid, _x, _seed: _Block(),
    predictions=_PREDICTIONS,
    custom=("timesteps",),
    divides=True,
)
