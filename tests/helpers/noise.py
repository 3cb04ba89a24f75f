"""Closed-loop image-to-image runs of a scheduler, ours and the oracle's, with the same stand-in for a model.

The model is a fixed function of what it is shown and told; all that differs between the two runs is the scheduler.
"""

from __future__ import annotations

import logging
import re
import warnings
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

import diffusers
import torch
from torch import Tensor

from sdedit_cli.errors import UsageError
from sdedit_cli.noise import Scheduler

logging.getLogger("diffusers").setLevel(logging.ERROR)
diffusers.utils.logging.set_verbosity_error()

SHAPE = (2, 4, 3, 5)


def model(x: Tensor, t: Tensor) -> Tensor:
    """Stands for a UNet: smooth in both, of x's dtype, and never far from unit size."""
    return (torch.sin(3 * x.float() + 0.01 * float(t)) * 0.9 + 0.1 * torch.tanh(x.float())).to(x.dtype)


@dataclass(frozen=True)
class Case:
    """One run: what the sampler is, and what is asked of it."""

    class_name: str
    options: dict[str, Any] = field(default_factory=dict)
    steps: int = 10
    strength: float = 0.8
    timesteps: list[int] | None = None
    sigmas: list[float] | None = None
    eta: float = 0.0
    dtype: torch.dtype = torch.float32
    shape: tuple[int, ...] = SHAPE

    def output(self, x: Tensor, t: Tensor) -> Tensor:
        """The stand-in's output, with a predicted variance beside it where the options ask for one."""
        value = model(x, t)
        learned = self.options.get("variance_type") in ("learned", "learned_range")
        return torch.cat([value, torch.sigmoid(value)], dim=1) if learned else value

    def __str__(self) -> str:
        options = ",".join(f"{key}={value}" for key, value in self.options.items())
        custom = f"t={self.timesteps}" if self.timesteps else f"s={self.sigmas}" if self.sigmas else str(self.steps)
        return f"{self.class_name}({options}) {custom}@{self.strength} eta={self.eta} {self.dtype}"


def latents(dtype: torch.dtype, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """(picture, noise), always the same."""
    generator = torch.Generator().manual_seed(7)
    picture = torch.randn(shape, generator=generator) * 0.8
    return picture.to(dtype), torch.randn(shape, generator=generator).to(dtype)


def oracle(class_name: str, options: dict[str, Any]) -> Any:
    """The oracle's scheduler. Some lay out a grid of all training steps when they are built, which takes seconds and
    is thrown away by the first `set_timesteps`: left out here."""
    kind = getattr(diffusers, class_name)

    def postponed(self: Any, *_args: Any, **_kwargs: Any) -> None:
        self.sigmas = torch.zeros(1)

    with warnings.catch_warnings(), patch.object(kind, "set_timesteps", postponed):
        warnings.simplefilter("ignore")  # the oracle's advice about deprecated names
        return kind(**options)


def oracle_run(case: Case) -> list[Tensor]:
    """Latents after noising and after every step, as the oracle's image-to-image pipeline drives its scheduler."""
    from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion_img2img import retrieve_timesteps

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torchsde's notes on queries past the ends of the tree
        scheduler = oracle(case.class_name, case.options)
        timesteps, n = retrieve_timesteps(
            scheduler,
            None if case.timesteps or case.sigmas else case.steps,
            "cpu",
            case.timesteps,
            case.sigmas,
        )
        begin = max(n - min(int(n * case.strength), n), 0) * scheduler.order
        timesteps = timesteps[begin:]
        if not len(timesteps):
            raise NoSteps
        if hasattr(scheduler, "set_begin_index"):
            scheduler.set_begin_index(begin)
        x, noise = latents(case.dtype, case.shape)
        x = scheduler.add_noise(x, noise, timesteps[:1].repeat(len(x)))
        trail = [x]
        generator = torch.Generator().manual_seed(11)
        extra: dict[str, Any] = {"generator": generator} if "generator" in scheduler.step.__code__.co_varnames else {}
        if "eta" in scheduler.step.__code__.co_varnames:
            extra["eta"] = case.eta
        for t in timesteps:
            output = case.output(scheduler.scale_model_input(x, t), t)
            x = scheduler.step(output, t, x, **extra, return_dict=False)[0]
            trail.append(x)
    return trail


def our_run(
    case: Case, rows: slice = slice(None), noises: list[Tensor] | None = None, seed: Any = None
) -> list[Tensor]:
    """The same of ours. `noises` collects the fresh normals, or supplies them when it is not empty."""
    scheduler = Scheduler.from_config({"_class_name": case.class_name, **case.options})
    if case.timesteps or case.sigmas:
        grid = scheduler.grid(timesteps=case.timesteps, sigmas=case.sigmas)
    else:
        grid = scheduler.grid(case.steps)
    begin = grid.begin(case.strength)
    x, noise = (value[rows] for value in latents(case.dtype, case.shape))
    x = scheduler.add_noise(grid, begin, x, noise)
    trail, state = [x], scheduler.start(grid, begin, x, seed)
    generator = torch.Generator().manual_seed(11)
    supply = iter(list(noises)) if noises else None
    for i in range(begin, len(grid.timesteps)):
        output = case.output(scheduler.scale_input(grid, i, x), grid.timesteps[i])
        fresh = None
        if scheduler.draws_noise(grid, i, case.eta):
            fresh = torch.randn(case.shape, generator=generator, dtype=scheduler.noise_dtype(output.dtype))
            if supply is not None:
                fresh = next(supply)[rows]
            elif noises is not None:
                noises.append(fresh)
        x, state = scheduler.step(grid, i, x, output, state, fresh, case.eta)
        trail.append(x)
    return trail


class NoSteps(Exception):
    """No step is left to run, and the oracle's pipeline would fail somewhere."""


# What the oracle does not serve: (exception, its message, why). Whatever else it raises fails the test.
REFUSALS: tuple[tuple[type[Exception], str, str], ...] = (
    (NoSteps, "", "custom timesteps of order 2 leave no step at this strength"),
    (
        NotImplementedError,
        "prediction_type not implemented yet: sample",
        "ancestral, KDPM2 and DPM-SDE predict no sample",
    ),
    (ValueError, "prediction_type given as sample must be one of", "nor does PNDM"),
    (ValueError, "Prediction type sample is not supported", "nor does EDM-Euler"),
    (NotImplementedError, r"sde-dpmsolver(\+\+)? is not implemented for", "DEIS and the singlestep solver: ODEs alone"),
    (
        ValueError,
        "`final_sigmas_type` zero is not supported for `algorithm_type`",
        "dpmsolver divides by the last sigma",
    ),
    (ValueError, r"Cannot (set|use) `timesteps` (with|when) `config", "a curve lays its own timesteps"),
    (ValueError, r"operands could not be broadcast together with shapes \(\d,\) \(8,\)", "PNDM warms up on four steps"),
    (UnboundLocalError, "cannot access local variable 'x_t'", "sde-dpmsolver has no third order"),
    (
        TypeError,
        r"unsupported operand type\(s\) for \+: 'NoneType' and 'int'",
        "flow ignores custom timesteps: multistep",
    ),
    (RuntimeError, r"The size of tensor a \(1000\) must match", "flow ignores custom timesteps: singlestep"),
    (RuntimeError, "linalg.solve: The solver failed because the input matrix is singular", "UniPC's last order of 3"),
)


def why_refused(error: Exception) -> str:
    """Why the oracle does not serve this case; raises an error that is in no row of the table."""
    for kind, message, why in REFUSALS:
        if isinstance(error, kind) and re.search(message, str(error)):
            return why
    raise error


@dataclass(frozen=True)
class Outcome:
    """What became of a case: compared bit for bit to its end, or why it was not; and what differs, if anything."""

    why_not_compared: str | None = None
    difference: str | None = None

    @property
    def compared(self) -> bool:
        return self.why_not_compared is None


def served_by_us(case: Case) -> bool:
    """False for requests that the oracle takes and gives something else for: it drops custom timesteps under a flow
    curve, and has no third order of sde-dpmsolver, which shows in runs long enough to need it."""
    third = case.options.get("algorithm_type") == "sde-dpmsolver" and case.options.get("solver_order") == 3
    return not (third or (case.timesteps and case.options.get("use_flow_sigmas")))


def compare(case: Case) -> Outcome:
    """Both runs, compared as far as the oracle's latents are finite. Ours may run or raise UsageError where the oracle
    does not serve the case."""
    refused = None
    expected: list[Tensor] = []
    try:
        expected = oracle_run(case)
    except Exception as error:
        refused = why_refused(error)
    try:
        ours = our_run(case)
    except UsageError as error:
        if refused or not served_by_us(case):
            return Outcome(refused or f"refused by us: {error}")
        return Outcome(difference=f"{case}: refused: {error}")
    if refused:
        return Outcome(refused)
    if len(ours) != len(expected):
        return Outcome(difference=f"{case}: {len(ours) - 1} steps, expected {len(expected) - 1}")
    for k, (mine, theirs) in enumerate(zip(ours, expected, strict=True)):
        if not torch.isfinite(theirs).all():
            return Outcome(f"not finite after step {k}")
        if mine.dtype != theirs.dtype:
            return Outcome(difference=f"{case}: {mine.dtype} after step {k}, expected {theirs.dtype}")
        if not torch.equal(mine, theirs):
            gap = (mine.double() - theirs.double()).abs().max().item()
            return Outcome(difference=f"{case}: differs after step {k} of {len(ours) - 1} by {gap:.3g}")
    return Outcome()


def differences(outcomes: Iterable[Outcome], enough: int, least: int = 0) -> list[str]:
    """What differs among the outcomes, drawn until `enough` were compared and at least `least` drawn. Fails where the
    outcomes end, or ten are drawn for one compared, before that."""
    drawn: list[Outcome] = []
    compared = 0
    for outcome in outcomes:
        drawn.append(outcome)
        compared += outcome.compared
        if (compared >= enough and len(drawn) >= least) or len(drawn) > 10 * enough:
            break
    reasons = Counter(outcome.why_not_compared for outcome in drawn if not outcome.compared)
    assert compared >= enough, f"{compared} of {len(drawn)} cases compared, {enough} wanted; the others: {reasons}"
    return [outcome.difference for outcome in drawn if outcome.difference]


def assert_equal_to_the_oracle(case: Case) -> None:
    """One case that must be compared, and be equal."""
    assert compare(case) == Outcome()
