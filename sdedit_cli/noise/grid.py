"""Grids: at which training steps a run calls the model, and which noise levels lie between the calls.

Solvers never know how their grid was made. Everything here is numpy in the reference's order of operations and
precision (float64 curves over float32 tables), on the CPU.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..configs.scheduler import SchedulerConfig
from ..errors import UsageError
from .process import Process

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Grid:
    """Where one run goes. Step `i` leads from node `i` to node `i + 1`.

    `num_inference_steps` is the number that a strength is a fraction of; solvers of order 2 have about twice as
    many nodes. The optional fields belong to single solvers.
    """

    timesteps: Tensor
    """[S] on the CPU: what the model is told."""
    sigmas: Tensor
    """[S + 1 or more] float32 on the CPU: noise to signal ratio at the nodes."""
    num_inference_steps: int
    order: int = 1
    mids: Tensor | None = None
    downs: Tensor | None = None
    ups: Tensor | None = None
    orders: tuple[int, ...] = ()
    warmup: tuple[int, ...] = ()

    @property
    def nodes(self) -> tuple[int, ...]:
        """The timesteps as integers, for solvers that look things up by training step."""
        return tuple(cast("list[int]", self.timesteps.tolist()))

    def begin(self, strength: float) -> int:
        """Index of the first step to run for an edit of this strength (0..1); `len(timesteps)` when none is left."""
        run = min(int(self.num_inference_steps * strength), self.num_inference_steps)
        return min((self.num_inference_steps - run) * self.order, len(self.timesteps))


@dataclass(frozen=True)
class Asked:
    """What the caller asked for: a number of steps, or timesteps, or sigmas (exactly one is given)."""

    steps: int
    timesteps: tuple[float, ...] | None = None
    sigmas: tuple[float, ...] | None = None


def ask(steps: int | None, timesteps: Sequence[float] | None, sigmas: Sequence[float] | None) -> Asked:
    """The request, checked. Raises UsageError unless it is one of the three, not empty, and in a sane range."""
    given = [value for value in (timesteps, sigmas) if value is not None]
    if len(given) == 2:
        raise UsageError("timesteps and sigmas were both given; give one of them")
    if given:
        enough = 2 if sigmas is not None else 1
        try:
            nodes = tuple(given[0])
            are_right = len(nodes) >= enough and all(0 <= node < 1e6 for node in nodes)
        except (TypeError, ValueError):
            nodes, are_right = (), False
        if not are_right:
            raise UsageError(
                f"custom timesteps or sigmas must be {enough} or more numbers of 0 to 1,000,000, got {given[0]!r}"
            )
        return Asked(len(nodes), nodes, None) if timesteps is not None else Asked(len(nodes) - 1, None, nodes)
    if steps is None or steps < 1:
        raise UsageError(f"the number of steps must be 1 or more, got {steps}")
    return Asked(steps)


def spaced(config: SchedulerConfig, n: int, *, surplus: int = 0, last: int | None = None) -> Array:
    """`n` falling training steps (float64), spaced as the config says (arXiv 2305.08891, table 2).

    `surplus` nodes more are laid out and dropped at the clean end; `last` is where noise ends, if not at the end.
    """
    count, train = n + surplus, config.num_train_timesteps
    end = train if last is None else last
    nodes: Array
    if config.timestep_spacing == "linspace":
        nodes = np.array(np.linspace(0, end - 1, count)[::-1][:n])
    elif config.timestep_spacing == "trailing":
        nodes = np.rint(np.arange(end, 0, -(train / n)))[:n] - 1.0  # rounding may lay out one more, at -1
    else:
        nodes = (np.arange(count) * (end // count))[::-1][:n].astype(np.float64) + config.steps_offset
    return nodes


def table_nodes(process: Process, asked: Asked) -> Array:
    """int64 timesteps for solvers that know training steps only. Raises UsageError when there are not as many."""
    train = process.config.num_train_timesteps
    if asked.timesteps is not None:
        _check_falling(asked.timesteps, train)
        return np.array(asked.timesteps, dtype=np.int64)
    if asked.steps > train:
        raise UsageError(f"{asked.steps} steps are more than the {train} that the model was trained with")
    return np.rint(spaced(process.config, asked.steps)).astype(np.int64)


def _check_falling(timesteps: Sequence[float], train: int) -> None:
    """Raises UsageError unless the custom timesteps fall strictly and lie within training."""
    if any(later >= earlier for earlier, later in pairwise(timesteps)) or timesteps[0] >= train or timesteps[-1] < 0:
        raise UsageError(f"custom timesteps must fall strictly from at most {train - 1} to 0, got {list(timesteps)}")


def table_grid(process: Process, timesteps: Array, steps: int, **more: Any) -> Grid:
    """A grid over training steps; sigmas are for the reader only."""
    nodes = torch.from_numpy(timesteps)
    # A grid of as many steps as there were in training may begin beyond them, where runs are refused (`check_run`).
    sigmas = torch.cat([process.sigmas[nodes.clamp(max=len(process.sigmas) - 1)], torch.zeros(1)])
    return Grid(nodes, sigmas, steps, **more)


def curve(config: SchedulerConfig, table: Array, n: int) -> Array | None:
    """`n` falling sigmas between the ends of `table` (falling) on the config's curve, or None when it has none."""
    low = float(table[-1]) if config.sigma_min is None else config.sigma_min
    high = float(table[0]) if config.sigma_max is None else config.sigma_max
    if config.use_karras_sigmas:
        return karras(low, high, np.linspace(0, 1, n), 7.0)
    if config.use_lu_lambdas:
        return np.exp(karras(float(np.log(table)[-1]), float(np.log(table)[0]), np.linspace(0, 1, n), 1.0))
    if config.use_exponential_sigmas:
        return np.exp(np.linspace(math.log(high), math.log(low), n))
    if config.use_beta_sigmas:
        from scipy.stats import beta

        quantiles: list[float] = [float(beta.ppf(q, 0.6, 0.6)) for q in 1 - np.linspace(0, 1, n)]
        return np.array([low + quantile * (high - low) for quantile in quantiles])
    return None


def karras(low: float, high: float, ramp: Any, rho: float) -> Any:
    """Karras et al. 2022 (arXiv 2206.00364), equation 5."""
    start, end = high ** (1 / rho), low ** (1 / rho)
    return (start + ramp * (end - start)) ** rho


def timesteps_of(sigmas: Array, log_table: Array, index_type: Any = np.float64) -> Array:
    """The fractional training steps at which the table has these sigmas, linear in log sigma."""
    logs = np.log(np.maximum(sigmas, 1e-10))
    low = np.cumsum(logs - log_table[:, np.newaxis] >= 0, axis=0).argmax(axis=0).clip(max=len(log_table) - 2)
    below, above = log_table[low], log_table[low + 1]
    weight = np.clip((below - logs) / (below - above), 0, 1)
    return (1 - weight) * low.astype(index_type) + weight * (low + 1).astype(index_type)


def final_sigma(process: Process) -> float:
    return float(process.sigmas[0]) if process.config.final_sigmas_type == "sigma_min" else 0.0


@dataclass(frozen=True, eq=False)
class Levels:
    """Noise levels before a solver arranges them: timesteps[n], sigmas[n] (without the final one) and their table."""

    timesteps: Array
    sigmas: Array
    log_table: Array


def ve_levels(process: Process, asked: Asked, *, dtype: Any = np.float32, round_karras: bool = False) -> Levels:
    """Levels of the k-diffusion family: interpolated in the table, or on a curve between the ends of that."""
    config, table = process.config, process.sigmas.numpy()
    log_table = np.log(table)
    if asked.sigmas is not None:
        sigmas: Array = np.array(asked.sigmas).astype(np.float32)[:-1]
        return Levels(timesteps_of(sigmas, log_table), sigmas, log_table)
    chosen = spaced(config, asked.steps) if asked.timesteps is None else np.array(asked.timesteps)
    timesteps: Array = chosen.astype(dtype)
    sigmas = np.interp(timesteps, np.arange(len(table)), table)
    if config.interpolation_type == "log_linear":
        ends = float(np.log(table[-1])), float(np.log(table[0]))
        sigmas = torch.linspace(*ends, asked.steps + 1).exp().numpy()
    curved = curve(config, sigmas, asked.steps)
    if curved is None:
        return Levels(timesteps, sigmas, log_table)
    timesteps = timesteps_of(curved, log_table)
    return Levels(np.rint(timesteps) if round_karras and config.use_karras_sigmas else timesteps, curved, log_table)


def vp_levels(process: Process, asked: Asked, *, last: int | None = None, rounds: bool = True) -> Levels:
    """Levels of the DPM-Solver family: one node more is laid out and dropped, curves run between the table's ends."""
    config, table = process.config, process.sigmas.numpy()
    log_table = np.log(table)
    chosen = asked.timesteps or np.rint(spaced(config, asked.steps, surplus=1, last=last))
    timesteps: Array = np.array(chosen).astype(np.int64)
    curved = curve(config, table[::-1], asked.steps)
    if curved is None:
        return Levels(timesteps, np.interp(timesteps, np.arange(len(table)), table), log_table)
    timesteps = timesteps_of(curved, log_table)
    if rounds and (config.use_karras_sigmas or config.use_lu_lambdas):
        timesteps = np.rint(timesteps)
    return Levels(timesteps, curved, log_table)


def flow_levels(config: SchedulerConfig, steps: int) -> Levels:
    """Levels of flow matching, sigma from near 1 down: (1 + 1/T - ramp), shifted (arXiv 2403.03206, equation 23)."""
    ramp = 1.0 - np.linspace(1, 1 / config.num_train_timesteps, steps + 1)
    sigmas = np.array(shifted(config.flow_shift, ramp)[::-1][:-1])
    return Levels(sigmas * config.num_train_timesteps, sigmas, sigmas)


def shifted(shift: float, sigmas: Array) -> Array:
    return shift * sigmas / (1 + (shift - 1) * sigmas)


def closed(sigmas: Array, final: float) -> Tensor:
    """float32 sigmas with the final one appended."""
    return torch.from_numpy(np.concatenate([sigmas, [final]]).astype(np.float32))
