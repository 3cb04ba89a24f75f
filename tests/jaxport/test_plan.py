"""A run of any sampler as tables of weights gives the latents that its own steps give, without a network or XLA."""

from __future__ import annotations

import numpy as np
import pytest
import torch

jax = pytest.importorskip("jax", reason="JAX is not installed: pip install 'sdedit-cli[test]'")

from sdedit_cli.errors import UsageError, WrongTypeError
from sdedit_cli.jaxport.plan import grid_for, plan_of
from sdedit_cli.noise import SOLVERS, Scheduler

ETA = {"ddim": 0.5, "tcd": 0.3}


def said(x: np.ndarray, t: float) -> np.ndarray:
    """Stands for a UNet."""
    return (0.9 * np.sin(x + np.float32(0.01 * t)) + 0.1 * np.tanh(x)).astype(np.float32)


def by_steps(scheduler: Scheduler, steps: int, strength: float, eta: float) -> tuple[np.ndarray, list[np.ndarray]]:
    """The last latents of the torch solver, and everything that was drawn."""
    grid, start = grid_for(scheduler, steps, strength)
    draws = torch.randn(len(grid.timesteps) + 2, 2, 4, 3, 5, generator=torch.Generator().manual_seed(0))
    x = scheduler.add_noise(grid, start, draws[0], draws[1])
    state = scheduler.start(grid, start, x)
    for i in range(start, len(grid.timesteps)):
        output = torch.from_numpy(said(scheduler.scale_input(grid, i, x).numpy(), float(grid.timesteps[i])))
        noise = draws[2 + i - start] if scheduler.draws_noise(grid, i, eta) else None
        x, state = scheduler.step(grid, i, x, output, state, noise, eta)
    return x.numpy(), list(draws.numpy())


def by_tables(scheduler: Scheduler, steps: int, strength: float, eta: float, draws: list[np.ndarray]) -> np.ndarray:
    plan = plan_of(scheduler, *grid_for(scheduler, steps, strength), eta)
    tables = {name: np.asarray(value) for name, value in plan._asdict().items() if value is not None}
    first = tables["image"] * draws[0] + tables["noise"] * draws[1]
    outputs, count = np.zeros((len(tables["times"]), *first.shape), np.float32), int(tables["steps"])
    noise = np.zeros_like(outputs)
    noise[:count] = draws[2 : 2 + count]

    def node(k: int) -> np.ndarray:
        x = tables["start"][k] * first + np.tensordot(tables["outputs"][k], outputs, 1)
        return x + np.tensordot(tables["draws"][k], noise, 1) if "draws" in tables else x

    for k in range(count):
        outputs[k] = said(tables["scales"][k] * node(k), float(tables["times"][k]))
    return node(count)


def test_every_sampler_but_that_of_trees_runs_as_its_own_steps_do() -> None:
    compared: set[tuple[str, str]] = set()
    for name in set(SOLVERS) - {"dpmpp_sde"}:
        for prediction in ("epsilon", "v_prediction"):
            scheduler = Scheduler.named(name, prediction_type=prediction)
            for steps, strength in ((7, 1.0), (10, 0.5), (50, 0.1)):
                want, draws = by_steps(scheduler, steps, strength, ETA.get(name, 0.0))
                got = by_tables(scheduler, steps, strength, ETA.get(name, 0.0), draws)
                scale = max(1.0, float(np.abs(want).max()))
                assert np.abs(got - want).max() < 2e-4 * scale, (name, prediction, steps, strength)
                compared.add((name, prediction))
    assert len(compared) == 2 * (len(SOLVERS) - 1)


def test_a_warm_up_of_runge_and_kutta_is_in_the_tables() -> None:
    scheduler = Scheduler.named("pndm", skip_prk_steps=False)
    want, draws = by_steps(scheduler, 20, 1.0, 0.0)
    np.testing.assert_allclose(by_tables(scheduler, 20, 1.0, 0.0, draws), want, atol=1e-3)


@pytest.mark.parametrize("curve", ["karras", "exponential"])
@pytest.mark.parametrize("name", ["lms", "euler", "dpmpp_2m", "unipc"])
def test_curves_are_in_the_tables(name: str, curve: str) -> None:
    scheduler = Scheduler.named(name, curve=curve)
    want, draws = by_steps(scheduler, 9, 0.7, 0.0)
    np.testing.assert_allclose(by_tables(scheduler, 9, 0.7, 0.0, draws), want, atol=1e-4)


@pytest.mark.parametrize(
    ("scheduler", "words"),
    [
        (Scheduler.named("dpmpp_sde"), "dpmpp_sde"),
        (Scheduler.named("ddim", clip_sample=True), "clip_sample"),
        (Scheduler.named("ddim", thresholding=True), "thresholding"),
        (Scheduler.named("ddpm", variance_type="learned"), "variance"),
    ],
)
def test_what_is_not_linear_is_refused_by_name(scheduler: Scheduler, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        plan_of(scheduler, *grid_for(scheduler, 5, 1.0))


@pytest.mark.parametrize(("strength", "words"), [(1.2, "0 to 1"), (-0.1, "0 to 1"), (0.01, "0.1")])
def test_a_strength_that_runs_nothing_is_refused(strength: float, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        grid_for(Scheduler.named("ddim"), 10, strength)


@pytest.mark.parametrize(
    "strength", [np.float32(0.5), np.array(0.5), torch.tensor(0.5), jax.numpy.float32(0.5), jax.numpy.bfloat16(0.5)]
)
def test_a_strength_may_come_out_of_an_array(strength: object) -> None:
    """As what is computed with JAX does."""
    assert grid_for(Scheduler.named("ddim"), 10, strength)[1] == grid_for(Scheduler.named("ddim"), 10, 0.5)[1] == 5


@pytest.mark.parametrize("strength", ["0.5", None, np.array([0.5, 0.5]), np.array("0.5")], ids=repr)
def test_a_strength_that_is_no_number_is_refused(strength: object) -> None:
    with pytest.raises(WrongTypeError, match="expected a number from 0 to 1"):
        grid_for(Scheduler.named("ddim"), 10, strength)
