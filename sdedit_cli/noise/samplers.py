"""Names of samplers, without torch: our short names, the class names of checkpoint folders, the names of web UIs.

Spaces, dashes, underscores and case don't count, and `++` may be written `pp`: 'DPM++ 2M Karras' is
'dpmpp_2m_karras'.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import UsageError, did_you_mean, shown

CLASS_NAMES: Mapping[str, str] = {
    "DDIMScheduler": "ddim",
    "DDPMScheduler": "ddpm",
    "PNDMScheduler": "pndm",
    "LMSDiscreteScheduler": "lms",
    "EulerDiscreteScheduler": "euler",
    "EulerAncestralDiscreteScheduler": "euler_a",
    "HeunDiscreteScheduler": "heun",
    "KDPM2DiscreteScheduler": "kdpm2",
    "KDPM2AncestralDiscreteScheduler": "kdpm2_a",
    "DPMSolverMultistepScheduler": "dpmpp_2m",
    "DPMSolverSinglestepScheduler": "dpmpp_2s",
    "DPMSolverSDEScheduler": "dpmpp_sde",
    "DEISMultistepScheduler": "deis",
    "UniPCMultistepScheduler": "unipc",
    "EDMEulerScheduler": "edm_euler",
    "LCMScheduler": "lcm",
    "TCDScheduler": "tcd",
}
"""Class name in `scheduler_config.json` -> solver."""
CLASS_OF: Mapping[str, str] = {solver: name for name, solver in CLASS_NAMES.items()}

TAKE_ETA = ("ddim", "tcd")
"""Solvers whose steps add as much noise as they are told to; others have no use for an eta."""

CURVES: Mapping[str, Mapping[str, bool]] = {
    "karras": {"use_karras_sigmas": True},
    "exponential": {"use_exponential_sigmas": True},
    "beta": {"use_beta_sigmas": True},
    "lu_lambdas": {"use_lu_lambdas": True},
    "flow": {"use_flow_sigmas": True},
}
"""Curve of the noise levels -> the option that turns it on."""
CURVE_OPTIONS = tuple(option for options in CURVES.values() for option in options)

_SDE = {"algorithm_type": "sde-dpmsolver++"}
_TRAILING = {"timestep_spacing": "trailing"}
_BASE: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "DDIM": ("ddim", {}),
    "DDIM trailing": ("ddim", _TRAILING),
    "DDPM": ("ddpm", {}),
    "PNDM": ("pndm", {}),
    "PLMS": ("pndm", {"skip_prk_steps": True}),
    "LMS": ("lms", {}),
    "Euler": ("euler", {}),
    "Euler trailing": ("euler", _TRAILING),
    "Euler a": ("euler_a", {}),
    "Heun": ("heun", {}),
    "DPM2": ("kdpm2", {}),
    "DPM2 a": ("kdpm2_a", {}),
    "DPM++ 2M": ("dpmpp_2m", {}),
    "DPM++ 2M SDE": ("dpmpp_2m", _SDE),
    "DPM++ 2M SDE Heun": ("dpmpp_2m", {**_SDE, "solver_type": "heun"}),
    "DPM++ 3M": ("dpmpp_2m", {"solver_order": 3}),
    "DPM++ 3M SDE": ("dpmpp_2m", {**_SDE, "solver_order": 3}),
    "DPM++ 2S": ("dpmpp_2s", {}),
    "DPM++ SDE": ("dpmpp_sde", {}),
    "DEIS": ("deis", {}),
    "UniPC": ("unipc", {}),
    "EDM Euler": ("edm_euler", {}),
    "LCM": ("lcm", {}),
    "TCD": ("tcd", {}),
}
_CURVED = ("lms", "euler", "heun", "kdpm2", "kdpm2_a", "dpmpp_2m", "dpmpp_2s", "dpmpp_sde", "deis", "unipc")
SAMPLERS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    **_BASE,
    **{
        f"{name} {curve.capitalize()}": (solver, {**overrides, **CURVES[curve]})
        for name, (solver, overrides) in _BASE.items()
        for curve in ("karras", "exponential", "beta")
        if solver in _CURVED and overrides is not _TRAILING
    },
}
"""Name as web UIs write it -> (solver, config overrides)."""

_ELSEWHERE = {
    "euler ancestral": "Euler a",
    "DPM 2": "DPM2",
    "DPM 2 ancestral": "DPM2 a",
    "UniPC bh2": "UniPC",
}
"""ComfyUI's name, where it is another -> that of other web UIs."""


def _plain(name: str) -> str:
    lowered = name.lower().replace("++", "pp")
    return "".join(letter for letter in lowered if letter not in " -_")


_ENTRIES: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    **{_plain(name): (solver, {}) for name, solver in CLASS_NAMES.items()},
    **{_plain(solver): (solver, {}) for solver in CLASS_NAMES.values()},
    **{_plain(name): entry for name, entry in SAMPLERS.items()},
    **{_plain(name): SAMPLERS[known] for name, known in _ELSEWHERE.items()},
}


def find(name: str) -> tuple[str, dict[str, Any]]:
    """(solver, config overrides) of a sampler by any of its names. Raises UsageError when nobody is called that."""
    entry = _ENTRIES.get(_plain(name))
    if entry is None:
        known = tuple(dict.fromkeys((*SAMPLERS, *CLASS_NAMES, *CLASS_NAMES.values())))
        some = f"; known are {', '.join(_BASE)}"
        raise UsageError(f"unknown sampler '{shown(name)}'{did_you_mean(name, known, _plain) or some}")
    return entry[0], dict(entry[1])


def label(name: str | None, solver: str, schedule: str | None) -> tuple[str, str]:
    """The web UIs' name of the sampler `name` (None: of the model's own, by its solver), and its curve ('' for none),
    which `schedule` replaces. Raises UsageError as `find`."""
    solver, overrides = find(name) if name else (solver, {})
    own = next((curve for curve, options in CURVES.items() if all(overrides.get(key) for key in options)), "")
    plain = {key: value for key, value in overrides.items() if key not in CURVES.get(own, {})}
    return next((known for known, entry in SAMPLERS.items() if entry == (solver, plain)), solver), schedule or own


def curve_options(curve: str | None) -> dict[str, bool]:
    """All curve options, with that of `curve` on. Raises UsageError for an unknown curve."""
    if curve is not None and curve not in CURVES:
        raise UsageError(f"unknown curve '{curve}', expected one of {', '.join(CURVES)}")
    return {option: option in CURVES.get(curve or "", {}) for option in CURVE_OPTIONS}
