"""Rounds: the loop several times over, each from the latents that the last one ended with.

B pictures, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..noise import Grid, Scheduler
from .denoise import Blend, Segment, Track
from .randomness import normal
from .shortcuts import NONE, Shortcuts
from .views import Views


@dataclass(frozen=True, eq=False)
class Round:
    """Where one round goes: the grid, its start, what its steps read, and what brings masked latents back.

    `blend` is given the latents that the round begins from, and the noise for them.
    """

    scheduler: Scheduler
    grid: Grid
    start: int
    segments: tuple[Segment, ...]
    blend: Callable[[Tensor, Tensor], Blend | None]

    @property
    def steps(self) -> int:
        """As people count them: second-order solvers spend two entries of the grid on one."""
        return -(-(len(self.grid.timesteps) - self.start) // self.scheduler.order)


@dataclass(frozen=True, eq=False)
class Steering:
    """What all rounds of a picture have in common."""

    guidance_scale: float
    guided: bool
    generator: torch.Generator
    seed: int
    eta: float
    same_noise: bool
    views: Views
    shortcuts: Shortcuts = NONE


def track_of(rounds: Sequence[Round], steering: Steering, x0_BCHW: Tensor, noise_BCHW: Tensor) -> Track:
    """The first of the rounds from these latents and this noise, with the others behind it."""
    first, later = rounds[0], rounds[1:]

    def then(x_BCHW: Tensor) -> Track:
        x_BCHW = x_BCHW.to(x0_BCHW.dtype)
        noise = noise_BCHW
        if not steering.same_noise:
            noise = normal(x_BCHW.shape, steering.generator, x_BCHW.device, x_BCHW.dtype)
        return track_of(later, steering, x_BCHW, noise)

    return Track(
        x_BCHW=first.scheduler.add_noise(first.grid, first.start, x0_BCHW, noise_BCHW),
        scheduler=first.scheduler,
        grid=first.grid,
        start=first.start,
        segments=first.segments,
        guidance_scale=steering.guidance_scale,
        guided=steering.guided,
        generator=steering.generator,
        seed=steering.seed,
        eta=steering.eta,
        views=steering.views,
        shortcuts=steering.shortcuts,
        blend=first.blend(x0_BCHW, noise_BCHW),
        then=then if later else None,
        later=sum(one.steps for one in later),
    )
