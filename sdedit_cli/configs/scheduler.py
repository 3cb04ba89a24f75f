"""`scheduler_config.json`: which sampler a checkpoint names, and the noise schedule that it was trained on.

One class holds the union of all options. `OPTIONS` says which of them each scheduler class of the format takes
and what it assumes where the file is silent; an option that the class does not take is kept in `given` (another
sampler may take it, see `renamed`) and has no effect.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, cast

from ..errors import ModelError, did_you_mean, shown
from .base import from_mapping


def said(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config without the options that nobody gave, of which it holds the defaults, as it says itself."""
    silent = unsaid(config)
    return {key: value for key, value in config.items() if key not in silent}


def unsaid(config: Mapping[str, Any]) -> Collection[str]:
    """The options in a config that nobody gave. What a file has in that place may be anything."""
    names: object = config.get("_use_default_values")
    listed = cast("Collection[object]", names) if isinstance(names, (list, tuple, set, frozenset)) else ()
    return {name for name in listed if isinstance(name, str)}


def is_known(config: Mapping[str, Any]) -> bool:
    """Whether it is of a class that there are options of."""
    return str(config.get("_class_name", "")).removeprefix("Flax") in OPTIONS


def _options(*groups: Mapping[str, Any], **own: Any) -> dict[str, Any]:
    return {key: value for group in (*groups, own) for key, value in group.items()}


_WIDE = {
    "num_train_timesteps": 1000,
    "beta_start": 0.0001,
    "beta_end": 0.02,
    "beta_schedule": "linear",
    "trained_betas": None,
    "prediction_type": "epsilon",
}
_NARROW = _options(_WIDE, beta_start=0.00085, beta_end=0.012)
_LINSPACE = {"timestep_spacing": "linspace", "steps_offset": 0}
_LEADING = {"timestep_spacing": "leading", "steps_offset": 0}
_CURVES = {"use_karras_sigmas": False, "use_exponential_sigmas": False, "use_beta_sigmas": False}
_ENDS = {"sigma_min": None, "sigma_max": None}
_THRESHOLD = {"thresholding": False, "dynamic_thresholding_ratio": 0.995, "sample_max_value": 1.0}
_CLIP = {"clip_sample": False, "clip_sample_range": 1.0}
_FLOW = {"use_flow_sigmas": False, "flow_shift": 1.0, "use_dynamic_shifting": False, "time_shift_type": "exponential"}
_MULTISTEP = _options(_WIDE, _CURVES, _ENDS, _THRESHOLD, _FLOW, solver_order=2, lower_order_final=True)
_DPM = {"algorithm_type": "dpmsolver++", "solver_type": "midpoint", "final_sigmas_type": "zero"}
_DPM_MORE = {"lambda_min_clipped": -float("inf"), "variance_type": None}
_ZERO_SNR = {"rescale_betas_zero_snr": False}
_DISTILLED = _options(
    _NARROW,
    _THRESHOLD,
    _CLIP,
    _LEADING,
    _ZERO_SNR,
    beta_schedule="scaled_linear",
    original_inference_steps=50,
    set_alpha_to_one=True,
    timestep_scaling=10.0,
)

OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "DDIMScheduler": _options(_WIDE, _THRESHOLD, _CLIP, _LEADING, _ZERO_SNR, clip_sample=True, set_alpha_to_one=True),
    "DDPMScheduler": _options(
        _WIDE, _THRESHOLD, _CLIP, _LEADING, _ZERO_SNR, clip_sample=True, variance_type="fixed_small"
    ),
    "PNDMScheduler": _options(_WIDE, _LEADING, skip_prk_steps=False, set_alpha_to_one=False),
    "LMSDiscreteScheduler": _options(_WIDE, _CURVES, _LINSPACE),
    "EulerDiscreteScheduler": _options(
        _WIDE,
        _CURVES,
        _ENDS,
        _LINSPACE,
        _ZERO_SNR,
        interpolation_type="linear",
        timestep_type="discrete",
        final_sigmas_type="zero",
    ),
    "EulerAncestralDiscreteScheduler": _options(_WIDE, _LINSPACE, _ZERO_SNR),
    "HeunDiscreteScheduler": _options(_NARROW, _CURVES, _ENDS, _CLIP, _LINSPACE),
    "KDPM2DiscreteScheduler": _options(_NARROW, _CURVES, _ENDS, _LINSPACE),
    "KDPM2AncestralDiscreteScheduler": _options(_NARROW, _CURVES, _ENDS, _LINSPACE),
    "DPMSolverMultistepScheduler": _options(
        _MULTISTEP, _LINSPACE, _DPM, _DPM_MORE, _ZERO_SNR, euler_at_final=False, use_lu_lambdas=False
    ),
    "DPMSolverSinglestepScheduler": _options(_MULTISTEP, _DPM, _DPM_MORE, lower_order_final=False),
    "DPMSolverSDEScheduler": _options(_NARROW, _CURVES, _LINSPACE, noise_sampler_seed=None),
    "DEISMultistepScheduler": _options(_MULTISTEP, _LINSPACE, algorithm_type="deis", solver_type="logrho"),
    "UniPCMultistepScheduler": _options(
        _MULTISTEP,
        _LINSPACE,
        _ZERO_SNR,
        solver_type="bh2",
        predict_x0=True,
        disable_corrector=(),
        solver_p=None,
        final_sigmas_type="zero",
        shift_terminal=None,
    ),
    "EDMEulerScheduler": {
        "num_train_timesteps": 1000,
        "prediction_type": "epsilon",
        "sigma_min": 0.002,
        "sigma_max": 80.0,
        "sigma_data": 0.5,
        "sigma_schedule": "karras",
        "rho": 7.0,
        "final_sigmas_type": "zero",
    },
    "LCMScheduler": _DISTILLED,
    "TCDScheduler": _DISTILLED,
}

STEPS_LIMIT = 1_000_000
# Options that must be more than 0, those of a switch where that is on.
_SWITCHED = {"sample_max_value": "thresholding", "clip_sample_range": "clip_sample"}
_POSITIVE = (
    "num_train_timesteps",
    "original_inference_steps",
    "sigma_min",
    "sigma_max",
    "sigma_data",
    "rho",
    *_SWITCHED,
)
_PREDICTIONS = ("epsilon", "v_prediction", "sample")
_ALGORITHMS = ("dpmsolver++", "sde-dpmsolver++", "dpmsolver", "sde-dpmsolver", "deis")
_SOLVER_TYPES = ("midpoint", "heun", "logrho", "bh1", "bh2")
PREDICTED_VARIANCES = ("learned", "learned_range")
"""Of `variance_type`: the model puts its variance out beside the noise."""
CHOICES: Mapping[str, tuple[str, ...]] = {
    "beta_schedule": ("linear", "scaled_linear", "squaredcos_cap_v2", "sigmoid", "laplace", "exp"),
    "prediction_type": (*_PREDICTIONS, "original_sample", "flow_prediction"),
    "timestep_spacing": ("linspace", "leading", "trailing"),
    "algorithm_type": _ALGORITHMS,
    "solver_type": _SOLVER_TYPES,
    "final_sigmas_type": ("zero", "sigma_min"),
    "interpolation_type": ("linear", "log_linear"),
    "timestep_type": ("discrete", "continuous"),
    "sigma_schedule": ("karras", "exponential"),
    "variance_type": ("fixed_small", "fixed_small_log", "fixed_large", "fixed_large_log", *PREDICTED_VARIANCES),
}
# A file that was saved for one sampler and is read for another names solver types that the other does not know:
# those of a sibling mean "your own default".
_OWN_TYPES: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "DPMSolverMultistepScheduler": {"algorithm_type": _ALGORITHMS[:4], "solver_type": ("midpoint", "heun")},
    "DPMSolverSinglestepScheduler": {"algorithm_type": _ALGORITHMS[:4], "solver_type": ("midpoint", "heun")},
    "DEISMultistepScheduler": {"algorithm_type": ("deis",), "solver_type": ("logrho",)},
    "UniPCMultistepScheduler": {"solver_type": ("bh1", "bh2")},
}


@dataclass(frozen=True)
class SchedulerConfig:
    """All options of `scheduler_config.json`; those that `class_name` does not take have no effect."""

    class_name: str
    num_train_timesteps: int = 1000
    beta_start: float = 0.0001
    beta_end: float = 0.02
    beta_schedule: str = "linear"
    trained_betas: tuple[float, ...] | None = None
    prediction_type: str = "epsilon"
    timestep_spacing: str = "linspace"
    steps_offset: int = 0
    rescale_betas_zero_snr: bool = False
    thresholding: bool = False
    dynamic_thresholding_ratio: float = 0.995
    sample_max_value: float = 1.0
    clip_sample: bool = False
    clip_sample_range: float = 1.0
    set_alpha_to_one: bool = True
    skip_prk_steps: bool = False
    use_karras_sigmas: bool = False
    use_exponential_sigmas: bool = False
    use_beta_sigmas: bool = False
    use_lu_lambdas: bool = False
    use_flow_sigmas: bool = False
    flow_shift: float = 1.0
    use_dynamic_shifting: bool = False
    time_shift_type: str = "exponential"
    shift_terminal: float | None = None
    sigma_min: float | None = None
    sigma_max: float | None = None
    interpolation_type: str = "linear"
    timestep_type: str = "discrete"
    final_sigmas_type: str = "zero"
    solver_order: int = 2
    algorithm_type: str = "dpmsolver++"
    solver_type: str = "midpoint"
    lower_order_final: bool = True
    euler_at_final: bool = False
    lambda_min_clipped: float = -float("inf")
    variance_type: str | None = None
    predict_x0: bool = True
    disable_corrector: tuple[int, ...] = ()
    solver_p: str | None = None
    noise_sampler_seed: int | tuple[int, ...] | None = None
    original_inference_steps: int = 50
    timestep_scaling: float = 10.0
    sigma_data: float = 0.5
    sigma_schedule: str = "karras"
    rho: float = 7.0
    given: tuple[tuple[str, Any], ...] = ()
    """What the file said, in its order, including options that another sampler would take."""

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], source: str = "scheduler_config.json") -> SchedulerConfig:
        """The config in `data`. Raises ModelError for an unknown class, a wrong type or an unknown choice."""
        name = str(data.get("_class_name", "")).removeprefix("Flax")
        if name not in OPTIONS:
            if not name:
                raise ModelError(f"{source}: has no '_class_name', expected one such as 'PNDMScheduler'")
            raise ModelError(f"{source}: unknown scheduler '{shown(name)}'{did_you_mean(name, tuple(OPTIONS))}")
        known = FIELDS & data.keys()
        # A null is silence, but of a flag: there it is false, as the reference has it.
        kept = {key for key in known if data[key] is not None or isinstance(_NEUTRAL[key], bool)}
        said = {key: _plain(value) for key, value in data.items() if key in kept}
        config = from_mapping(cls, {**OPTIONS[name], **said, "class_name": name}, source)
        # A null says that there is none, which is more than silence: another config made of this one may change it.
        nulls = {key for key in known if data[key] is None and getattr(config, key) is None}
        given = tuple((key, getattr(config, key)) for key in data if key in said or key in nulls)
        own = _OWN_TYPES.get(name, {})
        for key, choices in CHOICES.items():
            value = getattr(config, key)
            if value is not None and key in OPTIONS[name] and value not in choices:
                expected = ", ".join(choices)
                hint = did_you_mean(str(value), choices)
                raise ModelError(f"{source}: '{key}' is '{shown(value)}', expected one of {expected}{hint}")
        _check_numbers(config, source)
        without_effect = {key: _NEUTRAL[key] for key in FIELDS if key not in OPTIONS[name]}
        foreign = {key: OPTIONS[name][key] for key, types in own.items() if getattr(config, key) not in types}
        return dataclasses.replace(config, **{**without_effect, **foreign}, given=given)

    def to_dict(self) -> dict[str, Any]:
        """The JSON object of a checkpoint folder's `scheduler_config.json`."""
        values = {key: getattr(self, key) for key in OPTIONS[self.class_name]}
        return {"_class_name": self.class_name, **json.loads(json.dumps(values))}

    def to_file(self) -> dict[str, Any]:
        """As `to_dict`, with what another sampler would take of what was given: it may be asked for when it is read."""
        return {**self.given_to_dict(), **self.to_dict()}

    def given_to_dict(self) -> dict[str, Any]:
        """What the file said, as JSON has it."""
        return json.loads(json.dumps(dict(self.given)))

    def modernised(self) -> SchedulerConfig:
        """This config as Stable Diffusion needs it: configs of 2022 carry `steps_offset` 0 and `clip_sample` true,
        which were wrong for it (latents are no pictures to be clipped to -1..1)."""
        takes = OPTIONS[self.class_name]
        fixes = {"steps_offset": 1, "clip_sample": False}
        changes: dict[str, Any] = {key: value for key, value in fixes.items() if key in takes}
        given = {**dict(self.given), **changes}
        return dataclasses.replace(self, **changes, given=tuple(given.items()))


def _plain(value: Any) -> Any:
    """Scripts give arrays and tensors, and numbers out of them; files have neither."""
    return value.tolist() if hasattr(value, "tolist") else value


FIELDS = frozenset(field.name for field in dataclasses.fields(SchedulerConfig)) - {"class_name", "given"}
_NEUTRAL: Mapping[str, Any] = {
    field.name: field.default for field in dataclasses.fields(SchedulerConfig) if field.name in FIELDS
}


def _check_numbers(config: SchedulerConfig, source: str) -> None:
    """Raises ModelError for a number that its option cannot have."""
    takes = OPTIONS[config.class_name]
    for key in _POSITIVE:
        acts = key in takes and (key not in _SWITCHED or getattr(config, _SWITCHED[key]))
        if acts and (value := getattr(config, key)) is not None and value <= 0:
            raise ModelError(f"{source}: '{key}' is {value}, expected more than 0")
    lowest, highest = config.sigma_min, config.sigma_max
    if "sigma_min" in takes and lowest and highest and lowest > highest:
        raise ModelError(f"{source}: 'sigma_min' is {lowest}, more than 'sigma_max' {highest}")
    if config.thresholding and not 0 <= config.dynamic_thresholding_ratio <= 1:
        ratio = config.dynamic_thresholding_ratio
        raise ModelError(f"{source}: 'dynamic_thresholding_ratio' is {ratio}, expected 0 to 1")
    for key in ("num_train_timesteps", "original_inference_steps", "steps_offset"):
        if abs(getattr(config, key)) > STEPS_LIMIT:
            raise ModelError(f"{source}: '{key}' is {getattr(config, key)}, at most {STEPS_LIMIT}")
    if "trained_betas" in takes and config.trained_betas is not None:
        held, steps = len(config.trained_betas), config.num_train_timesteps
        if held < steps:
            raise ModelError(f"{source}: 'trained_betas' holds {held} values, expected {steps} (num_train_timesteps)")
        if not all(0 <= beta <= 1 for beta in config.trained_betas):
            raise ModelError(f"{source}: 'trained_betas' holds values outside 0..1")
    for key in ("beta_start", "beta_end"):
        if not 0 <= getattr(config, key) < 1:
            raise ModelError(f"{source}: '{key}' is {getattr(config, key)}, expected 0 or more and less than 1")
