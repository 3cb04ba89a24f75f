"""Names of samplers, and configs in and out of files."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from helpers.noise import Case, assert_equal_to_the_oracle, oracle, oracle_run, our_run
from hypothesis import given
from hypothesis import strategies as st

from sdedit_cli.configs.scheduler import OPTIONS, SchedulerConfig
from sdedit_cli.errors import ModelError, UsageError
from sdedit_cli.noise import CLASS_NAMES, SAMPLERS, SOLVERS, Scheduler
from sdedit_cli.noise.samplers import TAKE_ETA, find

SD15 = {
    "_class_name": "PNDMScheduler",
    "_diffusers_version": "0.6.0",
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "num_train_timesteps": 1000,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
    "trained_betas": None,
    "clip_sample": False,
}


def test_the_tables_name_the_same_solvers() -> None:
    assert set(CLASS_NAMES) == set(OPTIONS)
    assert set(CLASS_NAMES.values()) == set(SOLVERS)
    assert {solver for solver, _ in SAMPLERS.values()} == set(SOLVERS)


@pytest.mark.parametrize("class_name", CLASS_NAMES)
def test_options_and_defaults_are_the_oracles(class_name: str) -> None:
    """All options of the oracle's class with its defaults; ours may take the ends of a curve in addition."""
    parameters = inspect.signature(getattr(diffusers, class_name).__init__).parameters
    expected = {
        key: tuple(value.default) if isinstance(value.default, list) else value.default
        for key, value in parameters.items()
        if key != "self"
    }
    ours = dict(OPTIONS[class_name])
    for key in {"sigma_min", "sigma_max"} - expected.keys():
        ours.pop(key, None)
    assert ours == expected


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_runs_over_the_checkpoints_schedule(name: str) -> None:
    """`--sampler NAME`: finite at the end, whatever the sampler."""
    scheduler = Scheduler.from_config(SD15).renamed(name)
    assert scheduler.config.beta_end == (0.012 if name != "EDM Euler" else scheduler.config.beta_end)
    grid = scheduler.grid(4)
    x = torch.ones(1, 4, 2, 2)
    x = scheduler.add_noise(grid, 0, x, -x)
    state = scheduler.start(grid, 0, x, 3)
    for i in range(len(grid.timesteps)):
        shown = scheduler.scale_input(grid, i, x)
        noise = torch.ones_like(x) if scheduler.draws_noise(grid, i) else None
        x, state = scheduler.step(grid, i, x, 0.1 * shown, state, noise)
    assert torch.isfinite(x).all()


@pytest.mark.parametrize(
    ("name", "solver", "overrides"),
    [
        ("DPM++ 2M Karras", "dpmpp_2m", {"use_karras_sigmas": True}),
        ("dpmpp-2m_KARRAS", "dpmpp_2m", {"use_karras_sigmas": True}),
        ("DPM++ 2M SDE Exponential", "dpmpp_2m", {"algorithm_type": "sde-dpmsolver++", "use_exponential_sigmas": True}),
        ("dpmpp_2m_sde", "dpmpp_2m", {"algorithm_type": "sde-dpmsolver++"}),
        ("DPM++ SDE Karras", "dpmpp_sde", {"use_karras_sigmas": True}),
        ("euler a", "euler_a", {}),
        ("Euler_A", "euler_a", {}),
        ("DPM2 a", "kdpm2_a", {}),
        ("LMS Karras", "lms", {"use_karras_sigmas": True}),
        ("plms", "pndm", {"skip_prk_steps": True}),
        ("UniPCMultistepScheduler", "unipc", {}),
    ],
)
def test_names_of_web_uis(name: str, solver: str, overrides: dict[str, Any]) -> None:
    assert find(name) == (solver, overrides)


@given(name=st.sampled_from(sorted({*SAMPLERS, *CLASS_NAMES, *SOLVERS})), data=st.data())
def test_spelling_does_not_count(name: str, data: st.DataObject) -> None:
    """Any mix of case, spaces, dashes and underscores between the letters finds the same sampler."""
    spelled = "".join(
        data.draw(st.sampled_from([letter.upper(), letter.lower()])) + data.draw(st.sampled_from(["", " ", "-", "_"]))
        for letter in name.replace("++", "pp")
    )
    assert find(spelled) == find(name)


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("euler_ancestral", "Euler a"),
        ("dpm_2", "DPM2"),
        ("dpm_2_ancestral", "DPM2 a"),
        ("uni_pc", "UniPC"),
        ("uni_pc_bh2", "UniPC"),
        ("dpmpp_3m_sde", "DPM++ 3M SDE"),
    ],
)
def test_names_of_comfyui_are_known(name: str, known: str) -> None:
    assert find(name) == find(known)


def test_unknown_names_are_answered_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean 'DPM\\+\\+ 2M Karras'"):
        find("DPM++ 2M Karas")
    with pytest.raises(UsageError, match="did you mean 'DPM\\+\\+ 2M Karras'"):
        find("dpmpp2m karra")
    with pytest.raises(UsageError, match="known are DDIM"):
        Scheduler.named("nothing of the sort")
    with pytest.raises(ModelError, match="did you mean 'PNDMScheduler'"):
        Scheduler.from_config({"_class_name": "PNMDScheduler"})
    with pytest.raises(UsageError, match="use_karras_sigmas"):
        Scheduler.named("euler", use_karas_sigmas=True)
    with pytest.raises(UsageError, match="unknown curve"):
        Scheduler.named("euler", curve="bezier")


@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        ("ddim", {"solver_order": 3}),
        ("ddim", {"curve": "karras"}),
        ("euler_a", {"prediction_type": "sample"}),
        ("kdpm2", {"prediction_type": "sample"}),
        ("pndm", {"prediction_type": "sample"}),
        ("euler", {"use_karras_sigmas": True, "use_beta_sigmas": True}),
        ("dpmpp_2m", {"algorithm_type": "dpmsolver"}),
        ("dpmpp_2m", {"algorithm_type": "sde-dpmsolver", "final_sigmas_type": "sigma_min", "solver_order": 3}),
        ("unipc", {"solver_order": 4}),
        ("euler", {"timestep_spacing": "sideways"}),
        ("euler", {"beta_start": "much"}),
    ],
)
def test_options_that_cannot_be_meant_are_usage_errors(name: str, overrides: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        Scheduler.named(name, **overrides)


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"_class_name": "DDIMScheduler", "num_train_timesteps": 0},
        {"_class_name": "DDIMScheduler", "beta_schedule": "steep"},
        {"_class_name": "DDIMScheduler", "beta_end": -1.0},
        {"_class_name": "EDMEulerScheduler", "rho": 0.0},
        {"_class_name": "DDIMScheduler", "trained_betas": "none"},
    ],
)
def test_broken_configs_are_model_errors(data: dict[str, Any]) -> None:
    with pytest.raises(ModelError):
        Scheduler.from_config(data)


@pytest.mark.parametrize("value", [None, 0, 1])
@pytest.mark.parametrize("flag", ["clip_sample", "set_alpha_to_one"])
def test_nulls_and_numbers_as_flags_mean_what_the_oracle_makes_of_them(flag: str, value: int | None) -> None:
    """A null flag is false to it, where its class's default is true."""
    assert_equal_to_the_oracle(Case("DDIMScheduler", {flag: value}))
    config = Scheduler.from_config({"_class_name": "DDIMScheduler", flag: value}).config
    assert getattr(config, flag) is bool(value)


@pytest.mark.parametrize("class_name", CLASS_NAMES)
def test_the_oracle_reads_what_we_save(class_name: str, tmp_path: Path) -> None:
    """save -> oracle, and save -> ours: the same scheduler."""
    scheduler = Scheduler.from_config({**SD15, "_class_name": class_name})
    path = scheduler.save(tmp_path / "scheduler")
    for place in ({"config": path.parent}, {"config": str(tmp_path), "subfolder": "scheduler"}):
        assert Scheduler.from_config(**place).settings.to_dict() == scheduler.settings.to_dict()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the oracle's notes on options it does not expect
        theirs = getattr(diffusers, class_name).from_pretrained(path.parent)
    saved = json.loads(path.read_text())
    for key in inspect.signature(type(theirs).__init__).parameters.keys() & saved.keys():
        assert theirs.config[key] == saved[key], key


@pytest.mark.parametrize(("class_name", "solver"), CLASS_NAMES.items())
def test_an_eta_is_for_the_samplers_of_which_the_oracle_takes_one(class_name: str, solver: str) -> None:
    taken = "eta" in inspect.signature(getattr(diffusers, class_name).step).parameters
    assert (solver in TAKE_ETA) == taken


def test_we_read_what_the_oracle_saves(tmp_path: Path) -> None:
    options = {"beta_schedule": "scaled_linear", "use_karras_sigmas": True}
    oracle("HeunDiscreteScheduler", options).save_pretrained(tmp_path)
    scheduler = Scheduler.from_config(tmp_path / "scheduler_config.json")
    assert scheduler.name == "heun"
    assert scheduler.config.use_karras_sigmas


@pytest.mark.parametrize("class_name", CLASS_NAMES)
def test_another_sampler_over_a_checkpoint_equals_the_oracles_from_config(class_name: str) -> None:
    """`--sampler` on a Stable Diffusion 1.5 checkpoint: betas, offset and the like stay, the rest is the sampler's."""
    extra = {"noise_sampler_seed": 3} if class_name == "DPMSolverSDEScheduler" else {}
    source = diffusers.PNDMScheduler.from_config(SD15)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the oracle's notes on options it does not expect
        theirs = getattr(diffusers, class_name).from_config(source.config, **extra)
    ours = Scheduler.from_config(SD15).renamed(class_name, **extra)
    expected = {key: theirs.config[key] for key in inspect.signature(type(theirs).__init__).parameters if key != "self"}
    saved = ours.settings.to_dict()
    assert {key: saved[key] for key in expected} == expected
    assert_equal_to_the_oracle(Case(class_name, expected, 7, 0.7))


def test_renaming_keeps_the_training_and_drops_the_old_samplers_habits() -> None:
    first = Scheduler.from_config(SD15).renamed("DPM++ 3M SDE Karras")
    second = first.renamed("UniPC")
    assert (second.config.solver_order, second.config.use_karras_sigmas) == (2, False)
    assert second.config.beta_schedule == "scaled_linear"
    assert first.renamed("euler", curve="beta").config.use_beta_sigmas


def test_old_configs_are_modernised_as_the_oracles_pipeline_does() -> None:
    old = {"_class_name": "DDIMScheduler", "beta_schedule": "scaled_linear", "clip_sample": True, "steps_offset": 0}
    scheduler = Scheduler.from_config(old)
    options = {key: value for key, value in old.items() if key != "_class_name"}
    wanted = oracle_run(Case("DDIMScheduler", {**options, "clip_sample": False, "steps_offset": 1}, 8, 0.6))
    fixed = {
        key: value
        for key, value in scheduler.modernised().settings.to_dict().items()
        if key in OPTIONS["DDIMScheduler"]
    }
    assert torch.equal(our_run(Case("DDIMScheduler", fixed, 8, 0.6))[-1], wanted[-1])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the oracle tells its users about the outdated config
        pipeline = diffusers.StableDiffusionImg2ImgPipeline(
            None, None, None, None, diffusers.DDIMScheduler(**options), None, None, requires_safety_checker=False
        )
    assert pipeline.scheduler.config.steps_offset == scheduler.modernised().config.steps_offset == 1
    assert pipeline.scheduler.config.clip_sample is scheduler.modernised().config.clip_sample is False


def test_configs_are_values() -> None:
    """Frozen and hashable, so that they can key a cache; unknown keys and sibling options of a file do no harm."""
    config = SchedulerConfig.from_dict(
        {**SD15, "num_train_timesteps": 2, "trained_betas": [0.1, 0.2], "something_new": {"a": 1}}
    )
    assert hash(config) == hash(
        SchedulerConfig.from_dict({**SD15, "num_train_timesteps": 2, "trained_betas": [0.1, 0.2]})
    )
    assert Scheduler.from_config(SD15) == Scheduler.from_config(Scheduler.from_config(SD15))
    assert not Scheduler.from_config({**SD15, "rescale_betas_zero_snr": True}).settings.rescale_betas_zero_snr


def test_names_need_no_torch() -> None:
    """The command line knows all samplers, and refuses unknown ones, before torch is imported."""
    code = (
        "import sys; from sdedit_cli.noise.samplers import SAMPLERS; from sdedit_cli.noise import CLASS_NAMES; "
        "assert SAMPLERS and CLASS_NAMES; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("name", CLASS_NAMES)
def test_a_scheduler_its_config_and_its_dict_say_the_same(name: str) -> None:
    """Callers of the reference pass `pipe.scheduler.config`."""
    scheduler = Scheduler.named(name)
    assert Scheduler.from_config(config=scheduler) == scheduler
    for source in (scheduler, scheduler.config, scheduler.settings, scheduler.settings.to_dict()):
        for overrides in ({}, {"prediction_type": "epsilon"}):
            assert Scheduler.from_config(source, **overrides).settings.to_dict() == scheduler.settings.to_dict()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("num_train_timesteps", 10**10),
        ("trained_betas", []),
        ("trained_betas", [0.1, 0.2]),
        ("trained_betas", [float("nan")] * 1000),
        ("trained_betas", [-1.0] * 1000),
        ("sample_max_value", -1.0),
        ("sample_max_value", 0),
        ("clip_sample_range", 0.0),
        ("sigma_min", 20.0),
    ],
)
def test_schedules_that_cannot_be_are_refused_by_key(key: str, value: object) -> None:
    name = "EulerDiscreteScheduler" if key == "sigma_min" else "DDIMScheduler"
    told = {**SD15, "_class_name": name, "thresholding": True, "clip_sample": True, "sigma_max": 15.0, key: value}
    with pytest.raises(ModelError, match=f"some.json: '{key}'"):
        SchedulerConfig.from_dict(told, "some.json")


def test_a_range_that_nothing_is_kept_in_may_be_any() -> None:
    told = {**SD15, "_class_name": "DDIMScheduler", "sample_max_value": 0, "clip_sample": False, "clip_sample_range": 0}
    assert SchedulerConfig.from_dict(told).clip_sample_range == 0
