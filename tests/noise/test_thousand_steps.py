"""As many steps as there are training steps: numbers, or a refusal that names the reason, for every sampler."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch

from sdedit_cli import Scheduler
from sdedit_cli.errors import UsageError
from sdedit_cli.noise import SOLVERS, Grid

REASONS = "two of them at timestep|lies beyond the 1000 training steps|steps are more than the"
CONFIGS: dict[str, dict[str, Any]] = {
    "linspace": {"timestep_spacing": "linspace"},
    "leading": {"timestep_spacing": "leading"},
    "trailing": {"timestep_spacing": "trailing"},
    "karras": {"use_karras_sigmas": True},
    "first order": {"solver_order": 1},
    "third order": {"solver_order": 3},
}


def run(scheduler: Scheduler, grid: Grid, start: int, most: int = 12) -> torch.Tensor:
    """The latents after up to `most` steps from `start`, of a model that says half of what it is shown."""
    generator = torch.Generator().manual_seed(0)

    def normal() -> torch.Tensor:
        return torch.randn(1, 4, 2, 2, generator=generator)

    x = scheduler.add_noise(grid, start, normal(), normal())
    state = scheduler.start(grid, start, x, 1)
    for i in range(start, min(start + most, len(grid.timesteps))):
        noise = normal() if scheduler.draws_noise(grid, i) else None
        x, state = scheduler.step(grid, i, x, scheduler.scale_input(grid, i, x) / 2, state, noise)
    return x


def twice(grid: Grid, order: int) -> list[int]:
    """The steps that end where they began."""
    return [i for i in range(0, len(grid.timesteps) - 1, order) if grid.sigmas[i] == grid.sigmas[i + 1]]


@pytest.mark.filterwarnings("ignore:divide by zero:RuntimeWarning")  # of runs that would have been refused
@pytest.mark.parametrize("options", CONFIGS.values(), ids=CONFIGS)
@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("steps", [1000, 999])
def test_what_is_not_refused_is_a_number_and_what_is_refused_would_be_none(
    name: str, options: dict[str, Any], steps: int
) -> None:
    try:
        scheduler = Scheduler.named(name, **options)
    except UsageError:
        pytest.skip("the sampler takes no such option")
    grid = refusal(lambda: scheduler.grid(steps))
    if not isinstance(grid, Grid):
        assert re.search(REASONS, grid)
        return
    order = scheduler.order
    bad = twice(grid, order)[:1]
    # Where a step may lead nowhere, before it, and at the end.
    starts = {0, len(grid.timesteps) - 4 * order, *(max(0, i - k * order) for i in bad for k in (0, 3))}
    for start in sorted(start - start % order for start in starts):
        reason = refusal(lambda start=start: scheduler.check_run(grid, start))
        if reason is None:
            assert run(scheduler, grid, start).isfinite().all(), start
            continue
        assert re.search(REASONS, reason)
        if "lies beyond" in reason:
            assert (float(grid.timesteps[start]), start) == (1000, 0), "it was refused for nothing"
            continue
        # Third order singlestep may stride over the place; who meets it in the wrong phase does not.
        if (name, scheduler.settings.solver_order) != ("dpmpp_2s", 3):
            near = max(start, next(i for i in twice(grid, order) if i >= start) - 3 * order)
            assert not run(scheduler, grid, near, most=8 * order).isfinite().all(), "it was refused for nothing"


def refusal(call: Callable[[], Any]) -> Any:
    """What the call returns, or what its refusal says."""
    try:
        return call()
    except UsageError as refused:
        return str(refused)


@pytest.mark.parametrize("name", ["DPM++ 2M", "DEIS", "UniPC"])
def test_a_repeated_timestep_before_the_start_does_no_harm(name: str) -> None:
    scheduler = Scheduler.named(name)
    grid = scheduler.grid(1000)
    (repeated,) = twice(grid, 1)
    scheduler.check_run(grid, repeated + 1)
    with pytest.raises(UsageError, match="1000 steps put two of them at timestep"):
        scheduler.check_run(grid, repeated)
