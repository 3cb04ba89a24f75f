"""Grids: every number of steps against the oracle, and what holds for any request."""

from __future__ import annotations

import itertools
import warnings
from typing import Any

import pytest
import torch
from helpers.ends import reached, reaches
from helpers.noise import Outcome, differences, oracle, why_refused
from hypothesis import given, settings
from hypothesis import strategies as st

from sdedit_cli.configs.scheduler import OPTIONS
from sdedit_cli.errors import UsageError
from sdedit_cli.noise import CLASS_NAMES, SOLVERS, Scheduler

CURVES = (None, "use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas", "use_lu_lambdas", "use_flow_sigmas")


def compare_grids(class_name: str, options: dict[str, Any], steps: int) -> Outcome:
    """Timesteps (dtype too) and sigmas, ours and the oracle's."""
    case = f"{class_name} {options} {steps}"
    theirs = oracle(class_name, options)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # numpy's, on sigmas of zero and infinity in the oracle
            theirs.set_timesteps(steps)
    except ValueError as error:
        return Outcome(why_refused(error))
    try:
        grid = Scheduler.from_config({"_class_name": class_name, **options}).grid(steps)
    except UsageError as error:
        table = getattr(theirs, "alphas_cumprod", ())
        if float(theirs.timesteps.max()) >= len(table):
            return Outcome("the grid leaves the table: the oracle's first step would fail")
        return Outcome(difference=f"{case}: refused: {error}")
    equal = grid.timesteps.dtype == theirs.timesteps.dtype and torch.equal(
        grid.timesteps.nan_to_num(), theirs.timesteps.nan_to_num()
    )
    if hasattr(theirs, "sigmas"):
        sigmas = theirs.sigmas[: len(grid.sigmas)]  # the oracle repeats the last zero for some
        equal &= torch.equal(grid.sigmas.nan_to_num(), sigmas.nan_to_num())
    return Outcome(difference=None if equal else case)


def grid_axes(class_name: str) -> list[dict[str, Any]]:
    """The full product of the options that make a grid."""
    axes = {
        "timestep_spacing": ["leading", "linspace", "trailing"],
        "steps_offset": [0, 1],
        "rescale_betas_zero_snr": [False, True],
        "final_sigmas_type": ["zero", "sigma_min"],
        "skip_prk_steps": [True, False],
        "interpolation_type": ["linear", "log_linear"],
        "sigma_schedule": ["karras", "exponential"],
        "beta_schedule": ["scaled_linear", "squaredcos_cap_v2"],
    }
    taken = {key: values for key, values in axes.items() if key in OPTIONS[class_name]}
    curves = [curve for curve in CURVES if curve is None or curve in OPTIONS[class_name]]
    return [
        {**dict(zip(taken, values, strict=True)), **({curve: True} if curve else {})}
        for curve in curves
        for values in itertools.product(*taken.values())
    ]


@pytest.mark.parametrize("class_name", CLASS_NAMES)
def test_grids_equal_the_oracles(class_name: str) -> None:
    """A sample of the combinations of the options that make a grid, each at another number of steps; small sets of
    combinations come again, at other numbers."""
    products = grid_axes(class_name)
    sample = products[:: max(1, len(products) // 40)]
    cases = (compare_grids(class_name, options, 1 + k * 7 % 50) for k, options in enumerate(itertools.cycle(sample)))
    assert differences(cases, enough=24, least=len(sample)) == []


@pytest.mark.slow
@pytest.mark.parametrize("class_name", CLASS_NAMES)
def test_grids_equal_the_oracles_at_every_number_of_steps(class_name: str) -> None:
    cases = [(options, steps) for k, options in enumerate(grid_axes(class_name)) for steps in range(1 + k % 3, 51, 3)]
    outcomes = (compare_grids(class_name, options, steps) for options, steps in cases)
    assert differences(outcomes, enough=len(cases) * 3 // 4, least=len(cases)) == []


@reaches(grid=8)
@settings(max_examples=40, deadline=None)
@given(
    solver=st.sampled_from(sorted(SOLVERS)),
    steps=st.integers(-3, 1200),
    strength=st.floats(0, 1),
    spacing=st.sampled_from(["leading", "linspace", "trailing"]),
)
def test_any_number_of_steps_gives_a_falling_grid_or_a_usage_error(
    solver: str, steps: int, strength: float, spacing: str
) -> None:
    takes = "timestep_spacing" in OPTIONS[Scheduler.named(solver).settings.class_name]
    scheduler = Scheduler.named(solver, **({"timestep_spacing": spacing} if takes else {}))
    try:
        grid = scheduler.grid(steps)
    except UsageError:
        reached("refused")
        return
    assert steps >= 1
    assert len(grid.timesteps) >= steps
    assert len(grid.sigmas) > len(grid.timesteps)
    assert (torch.diff(grid.sigmas) <= 0).all() or solver == "pndm"  # its warm-up goes back and forth
    begin = grid.begin(strength)
    assert 0 <= begin <= len(grid.timesteps)
    assert begin % scheduler.order == 0 or begin == len(grid.timesteps)
    reached("grid")


_NUMBERS = st.one_of(st.integers(-5, 1005), st.floats(allow_nan=True, allow_infinity=True))
_TAKEN = [(solver, kind) for solver in sorted(SOLVERS) for kind in sorted(SOLVERS[solver].custom)]
_FALLING = st.lists(st.integers(0, 999), min_size=1, max_size=6, unique=True).map(lambda n: sorted(n, reverse=True))


@reaches(grid=5, refused=5)
@settings(max_examples=120, deadline=None)
@given(
    asked=st.sampled_from(_TAKEN)
    | st.tuples(st.sampled_from(sorted(SOLVERS)), st.sampled_from(["timesteps", "sigmas"])),
    nodes=st.lists(_NUMBERS, max_size=6) | _FALLING | _FALLING.map(lambda n: [float(x + 1) for x in n] + [0.0]),
)
def test_any_custom_nodes_give_a_grid_or_a_usage_error(asked: tuple[str, str], nodes: list[float]) -> None:
    solver, kind = asked
    try:
        grid = Scheduler.named(solver).grid(**{kind: nodes})
    except UsageError:
        reached("refused")
        return
    assert kind in SOLVERS[solver].custom
    assert len(grid.timesteps) >= 1
    reached("grid")


@pytest.mark.parametrize(
    ("solver", "kind"),
    [(solver, kind) for solver in SOLVERS for kind in ("timesteps", "sigmas") if kind not in SOLVERS[solver].custom],
)
def test_custom_nodes_are_refused_by_name(solver: str, kind: str) -> None:
    """A solver that takes no custom nodes says so, and says which do."""
    with pytest.raises(UsageError, match=f"'{solver}' takes no custom {kind}; these do: .*euler"):
        Scheduler.named(solver).grid(**{kind: [800, 400, 0]})


def test_requests_that_contradict_themselves_are_refused() -> None:
    scheduler = Scheduler.named("euler")
    for request in ({}, {"num_inference_steps": 0}, {"timesteps": [1], "sigmas": [1.0, 0.0]}, {"timesteps": []}):
        with pytest.raises(UsageError):
            scheduler.grid(**request)
    with pytest.raises(UsageError, match="use_karras_sigmas"):
        Scheduler.named("euler", curve="karras").grid(timesteps=[800, 400])


def test_a_run_of_no_steps_cannot_be_noised() -> None:
    scheduler = Scheduler.named("ddim")
    grid = scheduler.grid(10)
    x = torch.zeros(1, 4, 2, 2)
    with pytest.raises(UsageError, match="no step is left"):
        scheduler.add_noise(grid, grid.begin(0.02), x, x)


def test_strength_counts_steps_as_the_oracle_does() -> None:
    """`begin` is where the oracle's pipeline starts; solvers of order 2 start on a whole step."""
    assert Scheduler.named("euler").grid(50).begin(0.8) == 10
    assert Scheduler.named("heun").grid(50).begin(0.8) == 20
    assert Scheduler.named("euler").grid(50).begin(0.0) == 50
