"""A run of a sampler as tables of weights, so that JAX runs every one of them by the same loop.

A step of a solver is linear in the latent, the model's outputs so far and the noise. So is the whole run: the latent
at node k is x_k = start[k] x_0 + sum_j outputs[k, j] o_j + sum_j draws[k, j] n_j, where x_0 is the noised picture, o_j
what the model said in step j and n_j the noise of that step. The weights come from `noise` itself: its own steps are
walked once over unit vectors. No equation of a solver is written a second time, and a compiled program fits every
sampler, strength and number of steps, as these are numbers in tables and not its shape.

S steps that are run; P of them with padding, so that few lengths of tables exist.
"""

from __future__ import annotations

from numbers import Real
from typing import Any, NamedTuple, cast

import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
import torch
from jax import Array
from torch import Tensor

from ..configs.scheduler import PREDICTED_VARIANCES
from ..errors import UsageError, WrongTypeError
from ..noise import Grid, Scheduler
from ..options import smallest_strength

PIECE = 64
"""Tables are as long as the next multiple of it."""


class Plan(NamedTuple):
    """`steps`: how many are run. The noised picture is `image` latents + `noise` noise; in step k the model is shown
    `scales[k]` x_k and told `times[k]`. `draws` is None for a sampler that draws no noise on the way."""

    steps: Array
    image: Array
    noise: Array
    times: Array
    """[P]"""
    scales: Array
    """[P]"""
    start: Array
    """[P + 1]"""
    outputs: Array
    """[P + 1, P]"""
    draws: Array | None = None
    """[P + 1, P]"""


def grid_for(scheduler: Scheduler, steps: int, strength: Any) -> tuple[Grid, int]:
    """The grid of so many steps, and the index where an edit of this strength (a number, also as an array without axes)
    starts on it.

    Raises UsageError when the numbers cannot be meant, or no step would run.
    """
    given = strength
    if isinstance(given, (np.ndarray, Array, Tensor)) and given.ndim == 0:
        given = cast("object", given.item())
    if not isinstance(given, Real):
        raise WrongTypeError(f"strength is {strength!r}; expected a number from 0 to 1")
    strength = float(given)
    if not 0.0 <= strength <= 1.0:
        raise UsageError(f"strength is {strength:g}, expected 0 to 1")
    grid = scheduler.grid(steps)
    if int(steps * strength) < 1:
        raise UsageError(
            f"strength {strength:g} of {steps} steps rounds to no step at all; "
            f"use a strength of {smallest_strength(steps):g} or more, or more steps"
        )
    start = grid.begin(strength)
    scheduler.check_run(grid, start)
    return grid, start


def plan_of(scheduler: Scheduler, grid: Grid, start: int, eta: float = 0.0) -> Plan:
    """The tables of a run from step `start` on. Raises UsageError for a sampler whose steps are not linear."""
    check_linear(scheduler)
    count = len(grid.timesteps) - start
    size = -(-count // PIECE) * PIECE
    draws = [scheduler.draws_noise(grid, start + k, eta) for k in range(count)]
    x, units = _unit(0, count), torch.ones(1, 1, 1, 1, dtype=torch.float64)
    state = scheduler.start(grid, start, x)
    nodes, scales = [x], list[float]()
    for k in range(count):
        i = start + k
        scales.append(float(scheduler.scale_input(grid, i, units)))
        noise = _unit(1 + count + k, count) if draws[k] else None
        x, state = scheduler.step(grid, i, x, _unit(1 + k, count), state, noise, eta)
        nodes.append(x)
    weights = torch.cat(nodes).flatten(1).numpy()
    zeros = torch.zeros_like(units)
    return Plan(
        steps=jnp.int32(count),
        image=jnp.float32(float(scheduler.add_noise(grid, start, units, zeros))),
        noise=jnp.float32(float(scheduler.add_noise(grid, start, zeros, units))),
        times=_padded(grid.timesteps[start:].numpy(), size),
        scales=_padded(np.array(scales), size),
        start=_padded(weights[:, 0], size + 1),
        outputs=_padded(weights[:, 1 : 1 + count], size + 1, size),
        draws=_padded(weights[:, 1 + count :], size + 1, size) if any(draws) else None,
    )


def check_linear(scheduler: Scheduler) -> None:
    """Raises UsageError for a sampler that does more than weigh, or draws its noise by itself."""
    settings = scheduler.settings
    if scheduler.name == "dpmpp_sde":
        raise UsageError("sampler 'dpmpp_sde' draws from a tree of noise that JAX does not have; take another one")
    for key in ("thresholding", "clip_sample"):
        if getattr(settings, key):
            raise UsageError(f"scheduler option '{key}' is for models of pictures, and not done in JAX; turn it off")
    if settings.variance_type in PREDICTED_VARIANCES:
        raise UsageError("a model that predicts its variance cannot be run in JAX; take another sampler")


def _unit(index: int, count: int) -> Tensor:
    vector = torch.zeros(1, 1 + 2 * count, 1, 1, dtype=torch.float64)
    vector[0, index] = 1
    return vector


def _padded(values: npt.NDArray[np.float64], *sizes: int) -> Array:
    table = np.zeros(sizes, dtype=np.float32)
    table[tuple(slice(side) for side in values.shape)] = values
    return jnp.asarray(table)
