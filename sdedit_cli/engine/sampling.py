"""Which sampler an edit runs, on which grid, from where."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import UsageError
from ..noise import Grid, Scheduler
from ..options import Edit, smallest_strength


def grid_for(
    scheduler: Scheduler,
    steps: int,
    strength: float,
    timesteps: Sequence[int] | None = None,
    sigmas: Sequence[float] | None = None,
) -> tuple[Grid, int]:
    """The grid of so many steps, or through custom timesteps or sigmas, and the index where an edit of this strength
    starts on it.

    Raises UsageError when no step would run, naming the least strength that runs one, or one would lead nowhere.
    """
    custom = timesteps is not None or sigmas is not None
    grid = scheduler.grid(None if custom else steps, timesteps=timesteps, sigmas=sigmas)
    start, total = grid.begin(strength), grid.num_inference_steps
    if int(total * strength) < 1:
        raise UsageError(
            f"strength {strength:g} of {total} steps rounds to no step at all; "
            f"use a strength of {smallest_strength(total):g} or more, or more steps"
        )
    if start >= len(grid.timesteps):
        raise UsageError(f"strength {strength:g} leaves no step of this schedule to run; use a greater one")
    scheduler.check_run(grid, start)
    return grid, start


def chosen_scheduler(own: Scheduler, edit: Edit) -> Scheduler:
    """The checkpoint's scheduler, or the asked-for sampler on the checkpoint's noise process.

    Raises UsageError for a schedule that this sampler does not take.
    """
    if edit.sampler is None and edit.schedule is None:
        return own
    return own.renamed(edit.sampler or own.name, curve=edit.schedule)


def grid_of(scheduler: Scheduler, edit: Edit) -> tuple[Grid, int]:
    """The grid of an edit, and the index where it starts. Raises UsageError as `grid_for`."""
    total = edit.steps_total()
    try:
        return grid_for(scheduler, total, edit.strength, edit.timesteps, edit.sigmas)
    except UsageError as error:
        if total == edit.steps or edit.timesteps or edit.sigmas:
            raise
        counted = f"{edit.steps} exact steps at the strength {edit.strength:g} are {total} of the whole schedule"
        raise UsageError(f"{error} ({counted}; use a greater strength, or fewer steps)") from None
