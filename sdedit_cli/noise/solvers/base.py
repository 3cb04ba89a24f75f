"""What a solver is: a grid, a step, and a few facts. See `solvers/__init__.py` for the table of all of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from ...configs.scheduler import SchedulerConfig
from ..grid import Asked, Grid
from ..process import Process


@dataclass(frozen=True, eq=False)
class Step:
    """Step `i` of a grid, and what the caller brings to it. Sigmas are 0-d float32 on the CPU."""

    process: Process
    grid: Grid
    i: int
    noise: Tensor | None = None
    eta: float = 0.0

    @property
    def config(self) -> SchedulerConfig:
        return self.process.config

    @property
    def sigma(self) -> Tensor:
        return self.grid.sigmas[self.i]

    @property
    def sigma_next(self) -> Tensor:
        return self.grid.sigmas[self.i + 1]

    @property
    def left(self) -> int:
        """Steps still to go, this one included."""
        return len(self.grid.timesteps) - self.i

    def draw(self) -> Tensor:
        """The caller's fresh normal; it is a bug to call for one in a step that `draws` denied."""
        assert self.noise is not None, "this step needs noise: ask draws_noise() before calling step()"
        return self.noise


State = Any
"""What a solver carries from step to step: an immutable value that only the solver looks into."""


def never(_process: Process, _grid: Grid, _i: int, _eta: float) -> bool:
    return False


def always(_process: Process, _grid: Grid, _i: int, _eta: float) -> bool:
    return True


def no_state(_process: Process, _grid: Grid, _x: Tensor, _seed: Any) -> State:
    return ()


def ve_input(step: Step, x: Tensor) -> Tensor:
    return x / ((step.sigma**2 + 1) ** 0.5)


def same_input(_step: Step, x: Tensor) -> Tensor:
    return x


@dataclass(frozen=True)
class Solver:
    """One sampler.

    `space` says what a noisy latent is: x_0 + sigma noise ("ve"), alpha x_0 + sigma noise by training step
    ("table") or by sigma ("vp").
    """

    space: Literal["ve", "vp", "table"]
    grid: Callable[[Process, Asked], Grid]
    step: Callable[[Step, Tensor, Tensor, State], tuple[Tensor, State]]
    """(step, x, model output, state) -> (next x, next state)"""
    draws: Callable[[Process, Grid, int, float], bool] = never
    """Whether step i takes a fresh normal."""
    start: Callable[[Process, Grid, Tensor, Any], State] = no_state
    scale_input: Callable[[Step, Tensor], Tensor] = same_input
    order: int = 1
    predictions: tuple[str, ...] = ("epsilon", "v_prediction", "sample")
    custom: tuple[str, ...] = ()
    """Which of "timesteps" and "sigmas" a caller may bring."""
    draws_float32: bool = False
    """The noise is float32 whatever the model's dtype."""
    predicted: Callable[[Step, Tensor, Tensor], Tensor] | None = None
    """x_0 of (step, x, model output), where the model is told of more than `space` and prediction type say."""
    divides: bool = False
    """A step of no length, between two nodes of one noise level, makes no number (at order 1 it is harmless)."""
