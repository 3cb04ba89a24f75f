"""The scheduler classes of the reference by their names: made, exchanged and read as scripts written for it do."""

from __future__ import annotations

import copy
import inspect
import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from helpers.pipelines import picture

import sdedit_cli
from sdedit_cli import EulerDiscreteScheduler, Scheduler, StableDiffusionImg2ImgPipeline
from sdedit_cli.errors import ModelError, UsageError, WrongTypeError
from sdedit_cli.noise import CLASS_NAMES
from sdedit_cli.noise.scheduler import STABLE_DIFFUSION

# A file of Stable Diffusion 1.5, with an option that only another class takes.
SAID = {**STABLE_DIFFUSION, "_class_name": "PNDMScheduler", "prediction_type": "epsilon"}
pytestmark = [
    # The oracle's own notices: old array formats.
    pytest.mark.filterwarnings("ignore:.*:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*:DeprecationWarning"),
]


@pytest.mark.parametrize("source", [None, 3, ["scheduler"]])
def test_what_is_no_config_is_refused_as_a_value_and_as_a_type(source: Any) -> None:
    for kind in (ValueError, TypeError):
        with pytest.raises(kind, match=f"config is a {type(source).__name__}; expected a dict, a folder"):
            EulerDiscreteScheduler.from_config(source)


@pytest.mark.parametrize("source", [None, 3, ["scheduler"], {"_class_name": "DDIMScheduler"}])
def test_what_is_no_place_is_refused_by_its_type(source: Any) -> None:
    with pytest.raises(WrongTypeError, match=f"scheduler is a {type(source).__name__}; expected a path or a Hub id"):
        EulerDiscreteScheduler.from_pretrained(source)


def ours(name: str) -> Any:
    return getattr(sdedit_cli, name)


def theirs(name: str) -> Any:
    return getattr(diffusers, name)


@pytest.mark.parametrize("key", ["sigma_min", "sigma_max", "trained_betas"])
def test_a_null_of_a_file_may_be_changed_in_the_config_made_of_it(key: str) -> None:
    """As the reference has it: a null was given, and what nobody gave is another class's to say."""
    value = [0.01] * 1000 if key == "trained_betas" else 20.0
    file = {
        **SAID,
        "_class_name": "EulerDiscreteScheduler",
        "sigma_min": None,
        "sigma_max": None,
        "trained_betas": None,
    }
    for made in (ours("EulerDiscreteScheduler"), theirs("EulerDiscreteScheduler")):
        again = made.from_config({**made.from_config(file).config, key: value})
        assert np.array_equal(again.config[key], value)


def effective(name: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """What a config says of the options that the class takes in the reference."""
    names = inspect.signature(theirs(name).__init__).parameters.keys() - {"self", "kwargs"}
    return {key: config[key] for key in names if key in config}


@pytest.mark.parametrize("name", CLASS_NAMES)
def test_every_class_is_a_name_of_the_package_and_takes_keywords(name: str) -> None:
    made = ours(name)(beta_start=0.001) if "Discrete" in name else ours(name)()
    assert type(made) is ours(name)
    assert isinstance(made, Scheduler)
    assert made.name == CLASS_NAMES[name]
    assert name in dir(sdedit_cli)
    reference = theirs(name)(**({"beta_start": 0.001} if "Discrete" in name else {}))
    assert effective(name, made.config) == effective(name, reference.config)


def test_everything_but_what_needs_jax_comes_with_a_star() -> None:
    names: dict[str, Any] = {}
    exec("from sdedit_cli import *", names)
    assert names.keys() >= {*CLASS_NAMES, "Edit", "Scheduler", "StableDiffusionImg2ImgPipeline", "__version__"}
    assert not [name for name in names if name.startswith("Flax")]


def test_a_name_that_is_no_scheduler_is_no_name_of_the_package() -> None:
    with pytest.raises(AttributeError, match="SASolverScheduler"):
        ours("SASolverScheduler")


def test_an_option_that_the_class_does_not_take_is_refused_by_name() -> None:
    with pytest.raises(UsageError, match="use_karras_sigmas"):
        ours("DDIMScheduler")(use_karras_sigmas=True)
    with pytest.raises(UsageError, match=r"beta_strat.*did you mean 'beta_start'"):
        ours("DDIMScheduler")(beta_strat=0.1)


@pytest.mark.parametrize("name", CLASS_NAMES)
def test_a_config_may_be_the_constructors_keywords(name: str) -> None:
    """What nobody said stays unsaid, so that another class takes its own defaults; what was changed is said."""
    first = ours(name)(num_train_timesteps=900)
    again = ours(name)(**first.config)
    assert again == first
    assert again.config == first.config
    changed = ours(name)(**{**first.config, "prediction_type": "v_prediction"})
    assert changed.config.prediction_type == "v_prediction"
    assert "prediction_type" not in changed.config._use_default_values


@pytest.mark.parametrize("package", [sdedit_cli, diffusers], ids=["ours", "theirs"])
def test_another_class_has_its_own_defaults_for_what_no_config_said(package: Any) -> None:
    first = package.DDIMScheduler(**package.DDIMScheduler(beta_start=0.001).config)
    other = package.HeunDiscreteScheduler.from_config(first.config).config
    assert (other["beta_start"], other["beta_end"], other["timestep_spacing"]) == (0.001, 0.012, "linspace")


def test_another_class_made_of_a_configs_keywords_has_its_values() -> None:
    config = ours("LMSDiscreteScheduler")().config
    assert ours("HeunDiscreteScheduler")(**config).config.beta_end == config.beta_end
    with pytest.raises(UsageError, match="takes no option 'use_karras_sigmas'"):
        ours("DDIMScheduler")(**config)


@pytest.mark.parametrize("name", CLASS_NAMES)
def test_configs_go_both_ways(name: str) -> None:
    """X.from_config(pipe.scheduler.config): ours from theirs, theirs from ours, and theirs from theirs agree."""
    source = Scheduler.from_config(SAID)
    reference = diffusers.PNDMScheduler.from_config({k: v for k, v in SAID.items() if k != "clip_sample"})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the oracle's notes on options it does not expect
        expected = effective(name, theirs(name).from_config(reference.config).config)
        from_ours = effective(name, theirs(name).from_config(source.config).config)
    expected = {**expected, **({"clip_sample": False} if "clip_sample" in expected else {})}
    assert from_ours == expected
    made = ours(name).from_config(source.config)
    assert type(made) is ours(name)
    assert effective(name, made.config) == expected
    assert effective(name, ours(name).from_config(reference.config, **_unclipped(name)).config) == expected


def _unclipped(name: str) -> dict[str, Any]:
    return {"clip_sample": False} if "clip_sample" in inspect.signature(theirs(name).__init__).parameters else {}


@pytest.mark.parametrize("kind", [np.asarray, torch.tensor, list], ids=["array", "tensor", "list"])
def test_numbers_may_come_out_of_arrays(kind: Any) -> None:
    betas = np.linspace(0.001, 0.02, 20).tolist()
    ours = sdedit_cli.DDIMScheduler(trained_betas=kind(betas), num_train_timesteps=np.int64(20))
    theirs = diffusers.DDIMScheduler(trained_betas=betas, num_train_timesteps=20)
    torch.testing.assert_close(ours.process.alphas_cumprod, theirs.alphas_cumprod)
    assert len(ours) == len(theirs) == 20
    assert ours


def test_a_scheduler_is_saved_as_scripts_save_it(tmp_path: Path) -> None:
    scheduler = sdedit_cli.DDIMScheduler(steps_offset=1)
    scheduler.save_pretrained(tmp_path / "one", push_to_hub=False)
    scheduler.save_config(tmp_path / "two")
    files = [(tmp_path / name / "scheduler_config.json").read_bytes() for name in ("one", "two")]
    assert files[0] == files[1]
    with pytest.raises(UsageError, match="`push_to_hub` is True"):
        scheduler.save_pretrained(tmp_path / "three", push_to_hub=True)
    with pytest.raises(TypeError, match="save_directory is a int; expected the path"):
        scheduler.save_pretrained(5)


@pytest.mark.parametrize("between", ["EulerDiscreteScheduler", "UniPCMultistepScheduler", "LMSDiscreteScheduler"])
@pytest.mark.parametrize("name", ["DDIMScheduler", "DDPMScheduler", "PNDMScheduler"])
def test_an_option_of_another_class_survives_in_a_file(name: str, between: str, tmp_path: Path) -> None:
    """As in the reference: who loads a saved model and changes its sampler back has the old one's options."""
    told = {"clip_sample": False, "set_alpha_to_one": False, "skip_prk_steps": True, "steps_offset": 1}
    made: list[dict[str, Any]] = []
    for place, package in (("ours", sdedit_cli), ("theirs", diffusers)):
        first = getattr(package, name).from_config({"_class_name": name, **told})
        getattr(package, between).from_config(first.config).save_pretrained(tmp_path / place)
        again = getattr(package, name).from_config(getattr(package, between).from_pretrained(tmp_path / place).config)
        made.append({key: again.config[key] for key in told if key in again.config})
    assert made[0] == made[1]
    assert len(made[0]) >= 2


@pytest.mark.parametrize("name", CLASS_NAMES)
def test_an_option_of_another_class_survives_the_way_there_and_back(name: str) -> None:
    first = ours("EulerDiscreteScheduler").from_config(SAID, use_karras_sigmas=True, timestep_spacing="trailing")
    back = EulerDiscreteScheduler.from_config(ours(name).from_config(first.config).config)
    assert back.config.use_karras_sigmas
    assert back.config.timestep_spacing == "trailing"
    assert not back.config.rescale_betas_zero_snr


def test_a_config_is_a_mapping_with_attributes_that_cannot_be_changed() -> None:
    config = ours("DDIMScheduler")(beta_start=0.5).config
    assert config.beta_start == config["beta_start"] == dict(config)["beta_start"] == config.get("beta_start") == 0.5
    assert config._class_name == "DDIMScheduler"
    with pytest.raises(AttributeError, match="beta_strat"):
        _ = config.beta_strat
    for change in ("config['beta_start'] = 1", "config.beta_start = 1", "config.update(a=1)", "del config['beta_end']"):
        with pytest.raises(UsageError, match="from_config"):
            exec(change)
    assert copy.deepcopy(config) == pickle.loads(pickle.dumps(config)) == config


@pytest.mark.parametrize("name", CLASS_NAMES)
def test_the_pipelines_scheduler_is_of_the_class_that_its_config_names(
    name: str, pipe: StableDiffusionImg2ImgPipeline
) -> None:
    assert isinstance(pipe.scheduler, ours("DDIMScheduler"))
    pipe.scheduler = pipe.scheduler.renamed(name)
    assert type(pipe.scheduler) is ours(name)
    assert type(pipe.scheduler).from_config(pipe.scheduler.config) == pipe.scheduler
    assert type(pipe.scheduler) in pipe.scheduler.compatibles
    for copied in (copy.deepcopy(pipe.scheduler), pickle.loads(pickle.dumps(pipe.scheduler))):
        assert copied == pipe.scheduler
        assert type(copied) is ours(name)


def test_a_pipeline_runs_on_the_scheduler_that_it_is_given(pipe: StableDiffusionImg2ImgPipeline) -> None:
    def edited() -> torch.Tensor:
        generator = torch.Generator().manual_seed(3)
        return pipe("a", picture(), strength=0.6, num_inference_steps=5, generator=generator, output_type="pt").images

    before = pipe.scheduler
    pipe.scheduler = ours("EulerAncestralDiscreteScheduler").from_config(pipe.scheduler.config)
    by_name = edited()
    pipe.scheduler = before.renamed("Euler a")
    assert torch.equal(by_name, edited())
    pipe.scheduler = theirs("EulerAncestralDiscreteScheduler").from_config(before.config)
    assert torch.equal(by_name, edited())


@pytest.mark.parametrize("package", [sdedit_cli, diffusers], ids=["ours", "theirs"])
def test_loaders_take_their_sources_by_the_references_names(package: Any, folder: Path) -> None:
    asked: dict[str, Any] = {"return_unused_kwargs": False, "timestep_spacing": "trailing"}
    made = package.DDIMScheduler.from_pretrained(pretrained_model_name_or_path=folder, subfolder="scheduler", **asked)
    again = package.DDIMScheduler.from_config(config=made.config, **asked)
    assert again.config.timestep_spacing == "trailing"
    assert effective("DDIMScheduler", again.config) == effective("DDIMScheduler", made.config)


def test_a_config_at_hand_is_in_no_subfolder() -> None:
    with pytest.raises(UsageError, match="unknown scheduler option 'subfolder'"):
        EulerDiscreteScheduler.from_config(SAID, subfolder="scheduler")


def test_from_pretrained_reads_a_folder_its_subfolder_or_the_built_in_model(folder: Path, tmp_path: Path) -> None:
    made = EulerDiscreteScheduler.from_pretrained(folder, subfolder="scheduler", use_karras_sigmas=True)
    assert type(made) is EulerDiscreteScheduler
    assert made.config.use_karras_sigmas
    assert made == EulerDiscreteScheduler.from_pretrained(folder / "scheduler", use_karras_sigmas=True, token=None)
    assert made == EulerDiscreteScheduler.from_config(folder, subfolder="scheduler", use_karras_sigmas=True)
    made.save_pretrained(tmp_path)
    assert theirs("EulerDiscreteScheduler").from_pretrained(tmp_path).config.use_karras_sigmas
    built_in = EulerDiscreteScheduler.from_pretrained("built-in", subfolder="scheduler")
    assert built_in.config.num_train_timesteps == 1000
    with pytest.raises(ModelError, match=r"scheduler_config\.json"):
        EulerDiscreteScheduler.from_pretrained(folder)
