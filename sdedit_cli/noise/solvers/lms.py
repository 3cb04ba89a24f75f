"""LMS: linear multistep in sigma (Adams-Bashforth over the uneven grid), as in k-diffusion."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from ..grid import Asked, Grid, closed, ve_levels
from ..process import Process, denoised_ve
from .base import Solver, State, Step, ve_input

ORDER = 4


def _grid(process: Process, asked: Asked) -> Grid:
    levels = ve_levels(process, asked)
    return Grid(torch.from_numpy(levels.timesteps).to(torch.float32), closed(levels.sigmas, 0.0), asked.steps)


def _weight(sigmas: Any, i: int, order: int, k: int) -> float:
    """Integral over step `i` of the Lagrange polynomial that is 1 at node i - k and 0 at the other `order - 1`.

    The integrand is float32 as the reference's is: the quadrature then visits the same points.
    """
    from scipy.integrate import quad  # pyright: ignore[reportUnknownVariableType] - scipy is typed in part

    others = [j for j in range(order) if j != k]

    def lagrange(tau: float) -> float:
        product = np.float32(1.0)
        for j in others:
            product = product * ((np.float32(tau) - sigmas[i - j]) / (sigmas[i - k] - sigmas[i - j]))
        return float(product)

    result = cast("tuple[float, ...]", quad(lagrange, float(sigmas[i]), float(sigmas[i + 1]), epsrel=1e-4))
    return result[0]


def _lms(step: Step, x: Tensor, output: Tensor, state: State) -> tuple[Tensor, State]:
    slope = (x - denoised_ve(step.config.prediction_type, x, output, step.sigma)) / step.sigma
    slopes: tuple[Tensor, ...] = (*state, slope)[-ORDER:]
    # The order follows the place in the grid, not the slopes at hand: an edit that starts in the middle uses the
    # first weights of the full order, as the reference does.
    order, sigmas = min(step.i + 1, ORDER), step.grid.sigmas.numpy()
    weights = [_weight(sigmas, step.i, order, k) for k in range(min(order, len(slopes)))]
    return x + sum(weight * slope for weight, slope in zip(weights, reversed(slopes), strict=False)), slopes


LMS = Solver("ve", _grid, _lms, scale_input=ve_input)
