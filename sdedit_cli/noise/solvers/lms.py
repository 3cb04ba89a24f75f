"""LMS: linear multistep in sigma (Adams-Bashforth over the uneven grid), as in k-diffusion."""

from __future__ import annotations

from functools import lru_cache
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


@lru_cache(maxsize=4096)
def _weights(end: float, nodes: tuple[float, ...]) -> tuple[float, ...]:
    """Integrals from the first node to `end` of the Lagrange polynomials: 1 at one of the nodes, 0 at the others.

    The integrand is float32 as the reference's is: the quadrature then visits the same points.
    """
    from scipy.integrate import quad  # pyright: ignore[reportUnknownVariableType] - scipy is typed in part

    def weight(k: int) -> float:
        others: list[Any] = [np.float32(node) for j, node in enumerate(nodes) if j != k]
        distances: list[Any] = [np.float32(nodes[k]) - other for other in others]

        def lagrange(tau: float) -> float:
            product: Any = np.float32(1.0)
            at: Any = np.float32(tau)
            for other, distance in zip(others, distances, strict=True):
                product = product * ((at - other) / distance)
            return float(product)

        return cast("tuple[float, ...]", quad(lagrange, nodes[0], end, epsrel=1e-4))[0]

    return tuple(weight(k) for k in range(len(nodes)))


def _lms(step: Step, x: Tensor, output: Tensor, state: State) -> tuple[Tensor, State]:
    slope = (x - denoised_ve(step.config.prediction_type, x, output, step.sigma)) / step.sigma
    slopes: tuple[Tensor, ...] = (*state, slope)[-ORDER:]
    # The order follows the place in the grid, not the slopes at hand: an edit that starts in the middle uses the
    # first weights of the full order, as the reference does.
    nodes = cast("list[float]", step.grid.sigmas[max(step.i + 1 - ORDER, 0) : step.i + 1].tolist())
    weights = _weights(float(step.sigma_next), tuple(reversed(nodes)))
    return x + sum(weight * slope for weight, slope in zip(weights, reversed(slopes), strict=False)), slopes


LMS = Solver("ve", _grid, _lms, scale_input=ve_input, divides=True)
