"""Whole image-to-image runs of every solver, bit for bit against the oracle's scheduler on the same model outputs."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from helpers.noise import Case, assert_equal_to_the_oracle, compare, differences, our_run

from sdedit_cli.configs.scheduler import OPTIONS
from sdedit_cli.errors import UsageError
from sdedit_cli.noise import CLASS_NAMES, SOLVERS, Scheduler

CURVES = ("use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas", "use_lu_lambdas", "use_flow_sigmas")
AXES: dict[str, list[Any]] = {
    "beta_schedule": ["scaled_linear", "linear", "squaredcos_cap_v2"],
    "trained_betas": [None, None, None, [0.001 + 0.00002 * k for k in range(1000)]],
    "prediction_type": ["epsilon", "v_prediction", "sample"],
    "timestep_spacing": ["leading", "linspace", "trailing"],
    "steps_offset": [0, 1],
    "rescale_betas_zero_snr": [False, True],
    "thresholding": [False, False, True],
    "sample_max_value": [1.0, 1.5],
    "clip_sample": [False, True],
    "set_alpha_to_one": [True, False],
    "skip_prk_steps": [True, False],
    "solver_order": [2, 1, 3],
    "algorithm_type": ["dpmsolver++", "sde-dpmsolver++", "dpmsolver", "sde-dpmsolver"],
    "solver_type": ["midpoint", "heun", "bh1", "bh2", "logrho"],
    "predict_x0": [True, False],
    "disable_corrector": [[], [1, 3]],
    "lower_order_final": [True, False],
    "euler_at_final": [False, True],
    "final_sigmas_type": ["zero", "sigma_min"],
    "lambda_min_clipped": [-float("inf"), -5.1],
    "variance_type": ["fixed_small", "fixed_small_log", "fixed_large", "fixed_large_log", "learned", "learned_range"],
    "interpolation_type": ["linear", "log_linear"],
    "timestep_type": ["discrete", "continuous"],
    "sigma_schedule": ["karras", "exponential"],
    "sigma_min": [None, None, 0.05],
    "sigma_max": [None, None, 12.0],
    "flow_shift": [1.0, 3.0],
    "noise_sampler_seed": [3],
    "original_inference_steps": [50, 100],
}
# Options of a scheduler that the oracle's constructor does not name are read from its config by accident only.
_UNNAMED = {
    name: {"sigma_min", "sigma_max"} for name in OPTIONS if name not in ("EulerDiscreteScheduler", "EDMEulerScheduler")
}
_UNNAMED["UniPCMultistepScheduler"] = set()
# What makes a solver's arithmetic; the rest makes its grid.
_ARITHMETIC = (
    "prediction_type",
    "solver_order",
    "algorithm_type",
    "solver_type",
    "predict_x0",
    "lower_order_final",
    "euler_at_final",
    "final_sigmas_type",
    "variance_type",
    "skip_prk_steps",
    "set_alpha_to_one",
)
_SOLVER_TYPES = {"UniPCMultistepScheduler": ["bh1", "bh2"], "DEISMultistepScheduler": ["logrho"]}


def options_of(class_name: str, draw: random.Random) -> dict[str, Any]:
    """One value of every option that the class takes."""
    taken = [key for key in AXES if key in OPTIONS[class_name] and key not in _UNNAMED.get(class_name, set())]
    options = {key: draw.choice(AXES[key]) for key in taken}
    if class_name.startswith("DPMSolver"):
        options.pop("variance_type", None)  # learned variances there are for pictures of three channels
    if class_name == "EDMEulerScheduler":
        options["sigma_min"], options["sigma_max"] = draw.choice([(0.002, 80.0), (0.05, 12.0)])
    curves = [key for key in CURVES if key in OPTIONS[class_name]]
    if curves and draw.random() < 0.6:
        options[draw.choice(curves)] = True
    return {key: value for key, value in options.items() if value is not None}


def case_of(class_name: str, options: dict[str, Any], draw: random.Random, most: int) -> Case:
    """A run with these options: steps, strength, eta, dtype, and now and then custom timesteps or sigmas."""
    request: dict[str, Any] = {}
    solver = SOLVERS[CLASS_NAMES[class_name]]
    if "timesteps" in solver.custom and draw.random() < 0.2:
        request["timesteps"] = sorted(draw.sample(range(1000), draw.randint(1, min(most, 12))), reverse=True)
    elif "sigmas" in solver.custom and draw.random() < 0.2:
        request["sigmas"] = [*sorted((draw.uniform(0.1, 14) for _ in range(draw.randint(1, 9))), reverse=True), 0.0]
    steps = draw.randint(1, most)
    strength = draw.choice([0.02, 0.3, 0.8, 1.0, draw.random()])
    nodes = len(request.get("timesteps") or request.get("sigmas") or range(steps))
    return Case(
        class_name,
        options,
        steps=steps,
        strength=strength if int(nodes * strength) >= 1 else 1.0,  # a run of no steps compares nothing
        eta=draw.choice([0.0, 0.3, 1.0]),
        dtype=draw.choice([torch.float32, torch.float32, torch.float16, torch.bfloat16]),
        **request,
    )


def product_of(class_name: str) -> Iterator[dict[str, Any]]:
    """The full product of the options that make the arithmetic, and of the curves; other options are drawn.

    Small products come again, with other draws, up to 300 runs.
    """
    axes = [key for key in _ARITHMETIC if key in AXES and key in OPTIONS[class_name]]
    if class_name.startswith("DPMSolver"):
        axes = [key for key in axes if key != "variance_type"]
    curves = [None, *(key for key in CURVES if key in OPTIONS[class_name])]
    draw = random.Random(class_name)
    choices = {key: AXES[key] for key in axes}
    if "solver_type" in choices:
        choices["solver_type"] = _SOLVER_TYPES.get(class_name, ["midpoint", "heun"])
    product = list(itertools.product(curves, *choices.values()))
    for values in product * -(-300 // len(product)):
        options = {key: value for key, value in options_of(class_name, draw).items() if key not in CURVES}
        options.update(zip(axes, values[1:], strict=True))
        yield options if values[0] is None else {**options, values[0]: True}


@pytest.mark.parametrize("class_name", CLASS_NAMES)
def test_trajectories_equal_the_oracles_bit_for_bit(class_name: str) -> None:
    """A fixed sample of the product of options, steps, strengths, dtypes and custom grids."""
    draw = random.Random(class_name)
    lengths = itertools.chain([50], itertools.repeat(14))
    cases = (case_of(class_name, options_of(class_name, draw), draw, most) for most in lengths)
    assert differences(map(compare, cases), enough=24) == []


@pytest.mark.parametrize("class_name", CLASS_NAMES)
def test_defaults_of_a_class_equal_the_oracles(class_name: str) -> None:
    """What a config file does not say is what the oracle assumes, at every strength."""
    for strength in (0.25, 0.5, 1.0):
        seed = {"noise_sampler_seed": 3} if "SDE" in class_name else {}
        assert_equal_to_the_oracle(Case(class_name, seed, 20, strength))


@pytest.mark.parametrize(
    ("class_name", "schedule"),
    [("DDPMScheduler", "sigmoid"), ("DDPMScheduler", "laplace"), ("HeunDiscreteScheduler", "exp")],
)
def test_rare_beta_schedules_equal_the_oracles(class_name: str, schedule: str) -> None:
    assert_equal_to_the_oracle(Case(class_name, {"beta_schedule": schedule}, 8, 0.7))


@pytest.mark.parametrize("class_name", ["DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler"])
def test_learned_variance_of_the_dpm_solvers_is_dropped(class_name: str) -> None:
    options = {"variance_type": "learned_range"}
    assert_equal_to_the_oracle(Case(class_name, options, 8, 0.7, shape=(2, 3, 4, 4)))


@pytest.mark.slow
@pytest.mark.parametrize("class_name", CLASS_NAMES)
def test_full_product_equals_the_oracles_bit_for_bit(class_name: str) -> None:
    draw = random.Random(class_name)
    cases = [case_of(class_name, options, draw, most=25) for options in product_of(class_name)]
    assert differences(map(compare, cases), enough=len(cases) // 4, least=len(cases)) == []


@pytest.mark.parametrize("solver", SOLVERS)
def test_rows_stepped_apart_equal_rows_stepped_together(solver: str) -> None:
    """Tracks may share a batch or not: a row's bits never depend on its neighbours."""
    class_name = next(name for name, short in CLASS_NAMES.items() if short == solver)
    draw = random.Random(solver)
    compared = 0
    for _ in range(30):
        options = {key: value for key, value in options_of(class_name, draw).items() if key != "noise_sampler_seed"}
        if "learned" in options.get("variance_type", ""):
            options["variance_type"] = "fixed_small"  # a view of the model's output: docs/numerics.md
        options["final_sigmas_type"] = "sigma_min"
        options = {key: value for key, value in options.items() if key in OPTIONS[class_name]}
        case = Case(
            class_name, options, 9, 0.8, eta=0.5, dtype=draw.choice([torch.float32, torch.bfloat16]), shape=(3, 4, 6, 5)
        )
        noises: list[torch.Tensor] = []
        try:
            together = our_run(case, noises=noises, seed=[5, 6, 7])
        except UsageError:
            continue  # options that do not go together
        for row in range(3):
            apart = our_run(case, slice(row, row + 1), noises or None, seed=[5 + row])
            for one, all_rows in zip(apart, together, strict=True):
                assert torch.equal(one.nan_to_num(), all_rows[row : row + 1].nan_to_num()), case
        compared += bool(torch.isfinite(together[-1]).all())
        if compared == 6:
            return
    pytest.fail(f"{compared} of 30 runs compared, 6 wanted")


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_step_is_pure(solver: str) -> None:
    """The same step twice gives the same bits, draws when it said so, and leaves its arguments as they were."""
    scheduler = Scheduler.named(solver)
    grid = scheduler.grid(6)
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2, 4, 5, 3, generator=generator)
    x = scheduler.add_noise(grid, scheduler.order, x, torch.randn(x.shape, generator=generator))
    state = scheduler.start(grid, scheduler.order, x, [1, 2])
    for i in range(scheduler.order, len(grid.timesteps)):
        output = torch.randn(x.shape, generator=generator)
        noise = torch.randn(x.shape, generator=generator) if scheduler.draws_noise(grid, i, 0.5) else None
        kept = x.clone(), output.clone(), grid.sigmas.clone()
        first, later = scheduler.step(grid, i, x, output, state, noise, 0.5)
        again, _ = scheduler.step(grid, i, x, output, state, noise, 0.5)
        assert torch.equal(first, again)
        assert all(torch.equal(a, b) for a, b in zip(kept, (x, output, grid.sigmas), strict=True))
        x, state = first, later
    assert torch.isfinite(x).all()


@pytest.mark.parametrize("solver", SOLVERS)
def test_noise_is_asked_for_exactly_when_it_is_used(solver: str) -> None:
    """A step that said it draws nothing ignores the noise it is given; one that said so depends on it."""
    for eta in (0.0, 0.7):
        scheduler = Scheduler.named(solver, **({"algorithm_type": "sde-dpmsolver++"} if solver == "dpmpp_2m" else {}))
        grid = scheduler.grid(5)
        x = torch.linspace(-1, 1, 2 * 4 * 4 * 4).reshape(2, 4, 4, 4)
        state = scheduler.start(grid, 0, x, 1)
        for i in range(len(grid.timesteps)):
            ones, twos = (scheduler.step(grid, i, x, 0.5 * x, state, torch.full_like(x, k), eta) for k in (1.0, 2.0))
            used = not torch.equal(ones[0], twos[0])
            last = i == len(grid.timesteps) - 1  # a final sigma of zero leaves no room for the noise drawn
            assert used == scheduler.draws_noise(grid, i, eta) or (last and not used)
            x, state = ones


def test_the_brownian_path_follows_the_seed_of_the_config() -> None:
    """`noise_sampler_seed` wins over the picture's seed, as it does in the oracle."""
    free = Case("DPMSolverSDEScheduler", {}, 5, 1.0)
    fixed = Case("DPMSolverSDEScheduler", {"noise_sampler_seed": 1}, 5, 1.0)
    assert torch.equal(our_run(free, seed=1)[-1], our_run(fixed, seed=2)[-1])
    assert not torch.equal(our_run(free, seed=1)[-1], our_run(free, seed=2)[-1])
