"""The scheduler: a config, the process it describes, and the solver it names. Nothing here remembers a run."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from ..configs.base import read_json
from ..configs.mapping import ConfigMapping
from ..configs.scheduler import FIELDS, OPTIONS, PREDICTED_VARIANCES, SchedulerConfig, said
from ..errors import ModelError, UsageError, WrongTypeError, did_you_mean
from .grid import Grid, ask
from .process import Process, denoised, denoised_ve, process_of
from .samplers import CLASS_NAMES, CLASS_OF, CURVE_OPTIONS, CURVES, curve_options, find
from .solvers import SOLVERS, Solver, State, Step

FILE = "scheduler_config.json"
# What Stable Diffusion was trained with: the defaults of the file format are those of other models.
STABLE_DIFFUSION: Mapping[str, Any] = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "steps_offset": 1,
    "clip_sample": False,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
}
# How a sampler walks is its own matter; the rest of a config are facts of the training.
_OF_THE_SAMPLER = frozenset(
    {"algorithm_type", "solver_type", "solver_order", "lower_order_final", "euler_at_final", *CURVE_OPTIONS}
)


@dataclass(frozen=True, eq=False)
class Scheduler:
    """A sampler over a checkpoint's noise schedule; equal when the settings are."""

    settings: SchedulerConfig

    def __post_init__(self) -> None:
        _check(self.settings, self.solver)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Scheduler) and self.settings == other.settings

    def __hash__(self) -> int:
        return hash(self.settings)

    @classmethod
    def from_config(
        cls, config: Mapping[str, Any] | str | Path | SchedulerConfig | Scheduler, **overrides: Any
    ) -> Scheduler:
        """The scheduler of a config (a dict, a folder, a JSON file, another scheduler or its config), with options
        overridden; beside a folder `subfolder` is where in it the config lies.

        Raises ModelError when the config is not usable, UsageError for an override that the sampler does not take.
        """
        if isinstance(config, (str, os.PathLike)):
            config = Path(config, overrides.pop("subfolder", None) or "")
        return cls(configured(*said_by(config), overrides))

    @classmethod
    def of_checkpoint(cls, config: Mapping[str, Any], source: str) -> Scheduler:
        """The scheduler of a config that `source` has. Raises ModelError, which names it, when that is not usable."""
        try:
            return cls(configured(said(config), source, {}))
        except UsageError as error:  # what is a wish elsewhere
            raise ModelError(f"{source}: {error}") from None

    @classmethod
    def named(cls, name: str, **overrides: Any) -> Scheduler:
        """The sampler of that name over Stable Diffusion's noise schedule; `curve='karras'` and any option override.

        Raises UsageError for a name, a curve or an option that is unknown.
        """
        solver, own = find(name)
        said = {"_class_name": CLASS_OF[solver], **STABLE_DIFFUSION}
        return cls(configured(said, f"sampler '{name}'", {**own, **overrides}))

    def renamed(self, name: str, curve: str | None = None, **overrides: Any) -> Scheduler:
        """Another sampler over the same training, as `over` makes it."""
        return Scheduler.over(dict(self.settings.given), name, curve, **overrides)

    @classmethod
    def over(cls, said: Mapping[str, Any], name: str, curve: str | None = None, **overrides: Any) -> Scheduler:
        """A sampler over what a config of any class says: betas, prediction type, spacing and offset stay as given,
        curve and solver options are the sampler's own. Raises UsageError as `named` does."""
        solver, own = find(name)
        training = {key: value for key, value in said.items() if key not in _OF_THE_SAMPLER}
        chosen = {**own, **overrides, **({} if curve is None else {"curve": curve})}
        return Scheduler(configured({**training, "_class_name": CLASS_OF[solver]}, f"sampler '{name}'", chosen))

    def modernised(self) -> Scheduler:
        """This scheduler with the fixes that old Stable Diffusion configs need."""
        return Scheduler(self.settings.modernised())

    def folder_files(self) -> dict[str, str]:
        """The files of its folder in a model, by name: what `from_config` reads."""
        return {FILE: json.dumps(self.settings.to_file(), indent=2, sort_keys=True) + "\n"}

    def save(self, folder: str | Path) -> Path:
        """Writes `scheduler_config.json` into the folder (made if missing) and returns its path."""
        path = Path(folder) / FILE
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.folder_files()[FILE], encoding="utf-8")
        return path

    @cached_property
    def config(self) -> ConfigMapping:
        """All options as scripts read them, those of other samplers that the file gave included.

        `_use_default_values` names the options that nobody gave: another class has its own defaults for them.
        """
        taken, given = self.settings.to_dict(), self.settings.given_to_dict()
        silent = [key for key in taken if key not in given and key != "_class_name"]
        return ConfigMapping({**given, **taken, "_use_default_values": silent})

    @cached_property
    def process(self) -> Process:
        return process_of(self.settings)

    @property
    def name(self) -> str:
        """Our short name of the solver."""
        return CLASS_NAMES[self.settings.class_name]

    @property
    def solver(self) -> Solver:
        return SOLVERS[self.name]

    @property
    def order(self) -> int:
        """Model calls a step; nodes of the grid come in groups of as many."""
        return self.solver.order

    def grid(
        self,
        num_inference_steps: int | None = None,
        *,
        timesteps: Sequence[float] | None = None,
        sigmas: Sequence[float] | None = None,
    ) -> Grid:
        """The nodes of a run of so many steps, or through custom timesteps or sigmas (falling).

        Raises UsageError for a request that this sampler cannot serve.
        """
        asked = ask(num_inference_steps if timesteps is None and sigmas is None else None, timesteps, sigmas)
        for kind, given in (("timesteps", timesteps), ("sigmas", sigmas)):
            if given is None:
                continue
            if kind not in self.solver.custom:
                able = ", ".join(sorted(name for name, solver in SOLVERS.items() if kind in solver.custom))
                raise UsageError(f"sampler '{self.name}' takes no custom {kind}; these do: {able}")
            curves = [option for option in CURVE_OPTIONS if getattr(self.settings, option)]
            if kind == "timesteps" and curves:
                raise UsageError(f"custom timesteps cannot be used together with {curves[0]}; turn one of them off")
        grid = self.solver.grid(self.process, asked)
        if not len(grid.timesteps):
            raise UsageError(f"{asked.steps} steps leave no timestep on this schedule; check lambda_min_clipped")
        return grid

    def check_run(self, grid: Grid, start: int) -> None:
        """Raises UsageError when a run from `start` on begins beyond the training steps, or one of its steps ends where
        it began and the solver divides by its length."""
        train = self.settings.num_train_timesteps
        if (first := float(grid.timesteps[start])) > train - 1 and self.solver.space == "table":
            raise UsageError(
                f"timestep {first:g} lies beyond the {train} training steps; use fewer steps, or a smaller strength"
            )
        if not self.solver.divides or self.settings.solver_order == 1:
            return
        for i in range(start, len(grid.timesteps) - 1, self.order):
            if grid.sigmas[i] == grid.sigmas[i + 1]:
                raise UsageError(
                    f"{grid.num_inference_steps} steps put two of them at timestep {float(grid.timesteps[i]):g}, and "
                    f"sampler '{self.name}' needs each at a timestep of its own; use fewer steps or another sampler"
                )

    def scale_input(self, grid: Grid, i: int, x: Tensor) -> Tensor:
        """What the model is shown in step `i` for the latent `x`, same shape."""
        return self.solver.scale_input(Step(self.process, grid, i), x)

    def add_noise(self, grid: Grid, i: int, x0: Tensor, noise: Tensor) -> Tensor:
        """The latent from which a run that begins with step `i` starts; `x0` and `noise` have one shape and dtype.

        Raises UsageError when there is no step `i`: the strength was too small for the number of steps.
        """
        if i >= len(grid.timesteps):
            raise UsageError(f"no step is left to run of {grid.num_inference_steps}; raise the strength or the steps")
        if self.solver.space == "table":
            share = self.process.alphas_cumprod[grid.nodes[i]].to(x0.dtype)
            return share**0.5 * x0 + (1 - share) ** 0.5 * noise
        # Numbers stay on the CPU: a device takes them with the work, and need not be waited for.
        sigma = grid.sigmas[i].to(x0.dtype)
        if self.solver.space == "ve":
            return x0 + noise * sigma
        alpha, sigma = self.process.alpha_sigma(sigma)
        return alpha * x0 + sigma * noise

    def predicted(self, grid: Grid, i: int, x: Tensor, model_output: Tensor) -> Tensor:
        """The latent without its noise that the model sees in `x` at node `i`, same shape: for looking at.

        Where nothing but noise is left it may be not finite.
        """
        kind, sigma = self.settings.prediction_type, grid.sigmas[i]
        if self.solver.predicted is not None:
            return self.solver.predicted(Step(self.process, grid, i), x, model_output)
        if self.solver.space == "ve":
            return denoised_ve(kind, x, model_output, sigma)
        if self.solver.space == "table":
            share = self.process.alphas_cumprod[grid.nodes[i]]
            return denoised(kind, x, model_output, share**0.5, (1 - share) ** 0.5)
        return denoised(kind, x, model_output, *self.process.alpha_sigma(sigma))

    def draws_noise(self, grid: Grid, i: int, eta: float = 0.0) -> bool:
        """Whether step `i` takes a fresh normal of x's shape and `noise_dtype`."""
        return self.solver.draws(self.process, grid, i, eta)

    def noise_dtype(self, model_dtype: torch.dtype) -> torch.dtype:
        """The dtype in which that normal is drawn, for a model that computes in `model_dtype`."""
        return torch.float32 if self.solver.draws_float32 else model_dtype

    def start(self, grid: Grid, i: int, x: Tensor, seed: int | Sequence[int] | None = None) -> State:
        """The solver's memory before step `i`. `seed` (one, or one a row) is for solvers with noise of their own."""
        return self.solver.start(self.process, grid, x, seed)

    def step(
        self,
        grid: Grid,
        i: int,
        x: Tensor,
        model_output: Tensor,
        state: State,
        noise: Tensor | None = None,
        eta: float = 0.0,
    ) -> tuple[Tensor, State]:
        """(latent at node i + 1, memory) from latent and model output at node i. Changes none of its arguments.

        Raises UsageError for a model that predicts its variance too, which only some solvers read.
        """
        if model_output.shape != x.shape and self.settings.variance_type not in PREDICTED_VARIANCES:
            raise UsageError(
                f"the UNet puts out {model_output.shape[1]} channels for latents of {x.shape[1]}, its variance among "
                f"them, which sampler '{self.name}' does not read as it is set; take ddpm, dpmpp_2m or "
                "dpmpp_2s, with variance_type 'learned_range'"
            )
        return self.solver.step(Step(self.process, grid, i, noise, eta), x, model_output, state)


def said_by(source: Mapping[str, Any] | str | Path | SchedulerConfig | Scheduler) -> tuple[dict[str, Any], str]:
    """What was given of a scheduler's options, and what errors call it."""
    if isinstance(source, (Scheduler, SchedulerConfig)):
        settings = source.settings if isinstance(source, Scheduler) else source
        return {"_class_name": settings.class_name, **dict(settings.given)}, "scheduler"
    if isinstance(source, Mapping):
        return said(source), "scheduler config"
    if not isinstance(cast("object", source), (str, os.PathLike)):
        kind = type(source).__name__
        raise WrongTypeError(f"the scheduler's config is a {kind}; expected a dict, a folder, a file or a scheduler")
    path = Path(source) / FILE if Path(source).is_dir() else Path(source)
    return read_json(path), str(path)


def configured(said: Mapping[str, Any], source: str, overrides: Mapping[str, Any]) -> SchedulerConfig:
    """The settings of a config with options overridden, as `Scheduler.from_config` raises."""
    config = SchedulerConfig.from_dict(said, source)
    if not overrides:
        return config
    changes = dict(overrides)
    if "curve" in changes:
        curve = changes.pop("curve")
        curves = curve_options(curve)
        _check_curve(curve, config.class_name)
        changes = {**{key: on for key, on in curves.items() if key in OPTIONS[config.class_name]}, **changes}
    for key in changes:
        if key not in FIELDS:
            raise UsageError(f"unknown scheduler option '{key}'{did_you_mean(key, tuple(FIELDS))}")
        if key not in OPTIONS[config.class_name]:
            raise UsageError(f"sampler '{CLASS_NAMES[config.class_name]}' takes no option '{key}'")
    kept = {key: value for key, value in said.items() if key not in changes}
    try:
        return SchedulerConfig.from_dict({**kept, **changes}, source)
    except ModelError as error:
        raise UsageError(str(error)) from None


def _check_curve(curve: str | None, class_name: str) -> None:
    """Raises UsageError for a curve that a sampler's levels cannot follow, with the samplers whose levels can."""
    needed, own = CURVES.get(curve or "", {}).keys(), CLASS_NAMES[class_name]
    able = [solver for name, solver in CLASS_NAMES.items() if needed <= OPTIONS[name].keys()]
    if own not in able:
        raise UsageError(f"sampler '{own}' has no schedule '{curve}'; these samplers do: {', '.join(able)}")


def _check(config: SchedulerConfig, solver: Solver) -> None:
    """Raises UsageError for combinations that no equation stands behind."""
    name = CLASS_NAMES[config.class_name]
    if config.prediction_type not in solver.predictions:
        able = ", ".join(solver.predictions)
        raise UsageError(f"sampler '{name}' cannot use a model that predicts '{config.prediction_type}', only {able}")
    curves = [
        curve
        for curve, options in CURVES.items()
        if curve not in ("flow", "lu_lambdas") and any(getattr(config, key) for key in options)
    ]
    if len(curves) > 1:
        raise UsageError(f"the schedules {' and '.join(curves)} are both on, and a run follows one; leave one out")
    if "solver_order" in OPTIONS[config.class_name] and not 1 <= config.solver_order <= 3:
        raise UsageError(f"solver_order is {config.solver_order}, '{name}' has 1, 2 and 3")
    if name in ("dpmpp_2m", "dpmpp_2s"):
        if not config.algorithm_type.endswith("++") and config.final_sigmas_type == "zero":
            raise UsageError(f"algorithm_type '{config.algorithm_type}' needs final_sigmas_type 'sigma_min'")
        if config.algorithm_type == "sde-dpmsolver" and (config.solver_order == 3 or name == "dpmpp_2s"):
            raise UsageError("algorithm_type 'sde-dpmsolver' has multistep orders 1 and 2 only; use 'sde-dpmsolver++'")
