"""The same pictures as the reference for the same weights, arguments and seed: whole pipeline, float32."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.pipelines import FAMILIES, picture, write_checkpoint

from sdedit_cli import Scheduler, StableDiffusionImg2ImgPipeline
from sdedit_cli.errors import UsageError
from sdedit_cli.noise import SOLVERS
from sdedit_cli.noise.samplers import CLASS_OF

TOLERANCE = 1e-4
pytestmark = [
    # The oracle's own notices: it expects callers to repeat pictures themselves, and old list formats.
    pytest.mark.filterwarnings("ignore:.*:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Should have ta>=t0"),  # the oracle's Brownian tree at its own ends
]


@pytest.fixture(scope="module", params=list(FAMILIES))
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    folder = tmp_path_factory.mktemp(request.param)
    oracle = write_checkpoint(folder, request.param)
    return oracle, StableDiffusionImg2ImgPipeline.from_pretrained(folder)


@pytest.fixture(scope="module")
def sd15(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    folder = tmp_path_factory.mktemp("sd15")
    oracle = write_checkpoint(folder, "sd15")
    return oracle, StableDiffusionImg2ImgPipeline.from_pretrained(folder)


def both(pair: tuple[Any, Any], seed: int | list[int] = 3, **call: Any) -> tuple[np.ndarray, np.ndarray]:
    """The call on both, each with fresh generators of the same seeds, as arrays."""

    def generators() -> Any:
        seeds = seed if isinstance(seed, list) else [seed]
        made = [torch.Generator().manual_seed(s) for s in seeds]
        return made if isinstance(seed, list) else made[0]

    call = {"num_inference_steps": 4, "strength": 0.6, "output_type": "np"} | call
    theirs, ours = (pipe(**call, generator=generators()).images for pipe in pair)
    return np.asarray(theirs), np.asarray(ours)


def assert_same(theirs: np.ndarray, ours: np.ndarray) -> None:
    assert np.isfinite(theirs).all()
    assert theirs.shape == ours.shape
    np.testing.assert_allclose(ours, theirs, atol=TOLERANCE, rtol=0)


def noise(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


CALLS: dict[str, dict[str, Any]] = {
    "plain": {"prompt": "a cat"},
    "one step": {"prompt": "a cat", "strength": 0.02, "num_inference_steps": 50},
    "full strength": {"prompt": "a cat", "strength": 1.0},
    "as many steps as in training": {"prompt": "a cat", "strength": 0.004, "num_inference_steps": 1000},
    "negative": {"prompt": "a red apple", "negative_prompt": "blue, noise"},
    "unguided": {"prompt": "a cat", "guidance_scale": 1.0},
    "strong guidance": {"prompt": "a cat", "guidance_scale": 20.0},
    "two prompts": {"prompt": ["a cat", "a dog"]},
    "two prompts, negatives": {"prompt": ["a cat", "a dog"], "negative_prompt": ["x", "y z"]},
    "two pictures a prompt": {"prompt": ["a cat", "a dog"], "num_images_per_prompt": 2},
    "a generator each": {"prompt": ["a cat", "a dog"], "seed": [5, 6]},
    "a generator each, two a prompt": {"prompt": "a cat", "num_images_per_prompt": 2, "seed": [5, 6]},
    "eta": {"prompt": "a cat", "eta": 0.7},
    "eta, a generator each": {"prompt": ["a cat", "a dog"], "eta": 1.0, "seed": [1, 2]},
    "odd size": {"prompt": "a cat", "image": picture(37, 29)},
    "two pictures": {"prompt": ["a cat", "a dog"], "image": [picture(), picture(seed=1)]},
    "array": {"prompt": "a cat", "image": np.asarray(picture(35, 31), dtype=np.float32) / 255},
    "tensor": {"prompt": "a cat", "image": noise(3, 33, 32)},
    "tensor list": {
        "prompt": ["a", "b"],
        "image": list(noise(2, 3, 32, 32)),
    },
    "signed tensor": {
        "prompt": "a",
        "image": 2 * noise(1, 3, 32, 32) - 1,
    },
    "latents": {"prompt": "a cat", "image": noise(1, 4, 16, 16) - 0.5},
    "odd latents": {"prompt": "a cat", "image": noise(1, 4, 15, 13) - 0.5},
    "to latents": {"prompt": "a cat", "output_type": "latent"},
    "to tensor": {"prompt": "a cat", "output_type": "pt"},
    "to pictures": {"prompt": "a cat", "output_type": "pil"},
}


@pytest.mark.parametrize("name", CALLS)
def test_a_call_gives_the_oracles_picture(pair: tuple[Any, Any], name: str) -> None:
    call = {"image": picture()} | CALLS[name]
    theirs, ours = both(pair, **call)
    if name == "to pictures":
        assert np.abs(theirs.astype(int) - ours.astype(int)).max() <= 1
    else:
        assert_same(theirs, ours)


def test_given_embeddings_stand_for_prompts(pair: tuple[Any, Any]) -> None:
    g = torch.Generator().manual_seed(1)
    embeds = {name: torch.randn(2, 32, 32, generator=g) for name in ("prompt_embeds", "negative_prompt_embeds")}
    assert_same(*both(pair, image=picture(), **embeds))


def test_encode_prompt_gives_the_oracles_embeddings(pair: tuple[Any, Any]) -> None:
    theirs, ours = (pipe.encode_prompt(["a cat", "b"], "cpu", 2, True, ["x", "y"]) for pipe in pair)
    for left, right in zip(theirs, ours, strict=True):
        torch.testing.assert_close(right, left, atol=1e-5, rtol=0)


def test_clip_skip_takes_an_earlier_hidden_state(sd15: tuple[Any, Any]) -> None:
    """The oracle fails here with transformers 5, so its text encoder's hidden states are the reference."""
    oracle, ours = sd15
    ids = oracle.tokenizer(["a cat"], padding="max_length", max_length=32, return_tensors="pt").input_ids
    with torch.no_grad():
        out = oracle.text_encoder(ids, output_hidden_states=True)
    model = getattr(oracle.text_encoder, "text_model", oracle.text_encoder)
    for skip in (1, 2):
        want = model.final_layer_norm(out.hidden_states[-(skip + 1)])
        got, _ = ours.encode_prompt("a cat", do_classifier_free_guidance=False, clip_skip=skip)
        torch.testing.assert_close(got, want, atol=1e-5, rtol=0)


def test_a_callback_changes_latents_and_embeddings(pair: tuple[Any, Any]) -> None:
    def nudge(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        assert float(timestep) > 0
        embeds = tensors["prompt_embeds"] * (0.9 if step == 0 else 1.0)
        return {"latents": tensors["latents"] * 0.98 + 0.01, "prompt_embeds": embeds}

    names = ["latents", "prompt_embeds"]
    call = {"callback_on_step_end": nudge, "callback_on_step_end_tensor_inputs": names}
    assert_same(*both(pair, image=picture(), prompt="a cat", **call))


def test_a_callback_turns_guidance_off_in_mid_run(sd15: tuple[Any, Any]) -> None:
    def cut(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        if step != 0:
            return {}
        pipe._guidance_scale = 0.0
        return {"prompt_embeds": tensors["prompt_embeds"].chunk(2)[1]}

    call = {"callback_on_step_end": cut, "callback_on_step_end_tensor_inputs": ["prompt_embeds"]}
    assert_same(*both(sd15, image=picture(), prompt="a cat", num_inference_steps=5, **call))


def test_a_callback_changes_embeddings_in_place(sd15: tuple[Any, Any]) -> None:
    def halve(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        tensors["prompt_embeds"].mul_(0.5)
        tensors["latents"].mul_(0.99)
        return tensors

    names = ["latents", "prompt_embeds"]
    call = {"callback_on_step_end": halve, "callback_on_step_end_tensor_inputs": names}
    assert_same(*both(sd15, image=picture(), prompt="a cat", **call))


def test_a_callback_may_compute_in_another_precision(sd15: tuple[Any, Any]) -> None:
    """In the reference the next step fails then, unless the callback turns its numbers back."""

    def nudge(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        made = {"latents": tensors["latents"].double() * 0.98, "prompt_embeds": tensors["prompt_embeds"].double() * 0.9}
        is_ours = isinstance(pipe, StableDiffusionImg2ImgPipeline)
        return made if is_ours else {name: tensor.float() for name, tensor in made.items()}

    names = ["latents", "prompt_embeds"]
    call = {"callback_on_step_end": nudge, "callback_on_step_end_tensor_inputs": names}
    assert_same(*both(sd15, image=picture(), prompt="a cat", **call))


def test_a_callback_object_of_the_oracle_works_here(sd15: tuple[Any, Any]) -> None:
    from diffusers.callbacks import SDCFGCutoffCallback

    cutoff = SDCFGCutoffCallback(cutoff_step_ratio=0.4)
    call = {"callback_on_step_end": cutoff, "num_inference_steps": 8, "strength": 1.0}
    assert_same(*both(sd15, image=picture(), prompt="a cat", **call))


@pytest.mark.parametrize("attribute", ["interrupt", "_interrupt"])
def test_interrupt_ends_after_the_step(pair: tuple[Any, Any], attribute: str) -> None:
    def stop(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        if step == 1:
            setattr(pipe, attribute if isinstance(pipe, StableDiffusionImg2ImgPipeline) else "_interrupt", True)
        return tensors

    call = {"callback_on_step_end": stop, "num_inference_steps": 8}
    assert_same(*both(pair, image=picture(), prompt="a cat", **call))


def test_a_saved_pipeline_is_read_by_the_oracle(sd15: tuple[Any, Any], tmp_path: Path) -> None:
    oracle, ours = sd15
    ours.save_pretrained(tmp_path)
    again = type(oracle).from_pretrained(tmp_path)
    again.set_progress_bar_config(disable=True)
    assert_same(*both((oracle, again), image=picture(), prompt="a cat"))


# What a solver needs on both sides beside the checkpoint's own config.
OPTIONS: dict[str, dict[str, Any]] = {
    "pndm": {"skip_prk_steps": True},
    "dpmpp_2m": {"use_karras_sigmas": True},
    "dpmpp_sde": {"noise_sampler_seed": 5},
}


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("strength", [0.3, 1.0])
def test_every_solver_gives_the_oracles_picture(sd15: tuple[Any, Any], solver: str, strength: float) -> None:
    import diffusers

    oracle, ours = sd15
    before = oracle.scheduler, ours.scheduler
    kind = CLASS_OF[solver]
    oracle.scheduler = getattr(diffusers, kind).from_config(oracle.scheduler.config, **OPTIONS.get(solver, {}))
    ours.scheduler = Scheduler.from_config({**dict(oracle.scheduler.config), "_class_name": kind})
    try:
        call = {"num_inference_steps": 7, "strength": strength}
        theirs, mine = both(sd15, image=picture(), prompt="a cat", **call)
        assert_same(theirs, mine)
    finally:
        oracle.scheduler, ours.scheduler = before


def test_a_unet_that_reads_no_text_edits_too(tmp_path: Path) -> None:
    """Without a layer of attention there are no keys of a text to be gathered."""
    plain = {"down_block_types": ["DownBlock2D"] * 2, "up_block_types": ["UpBlock2D"] * 2, "mid_block_type": None}
    oracle = write_checkpoint(tmp_path, unet=plain)
    pair = oracle, StableDiffusionImg2ImgPipeline.from_pretrained(tmp_path)
    assert_same(*both(pair, prompt=["a cat", "a dog"], image=picture()))


def with_variance(folder: Path) -> tuple[Any, Any]:
    """A model that puts out its variance beside the noise, with a DDPM sampler that reads it."""
    from diffusers import DDPMScheduler

    oracle = write_checkpoint(folder, unet={"out_channels": 8})
    oracle.scheduler = DDPMScheduler(variance_type="learned_range", clip_sample=False, steps_offset=1)
    oracle.save_pretrained(folder)
    return oracle, StableDiffusionImg2ImgPipeline.from_pretrained(folder)


@pytest.mark.parametrize("guidance_scale", [1.0, 5.0])
def test_a_model_that_predicts_its_variance_draws_noise_of_the_latents_shape(
    tmp_path: Path, guidance_scale: float
) -> None:
    pair = with_variance(tmp_path)
    assert_same(*both(pair, prompt="a cat", image=picture(), guidance_scale=guidance_scale))


@pytest.mark.parametrize("sampler", ["ddim", "euler", "pndm"])
def test_a_sampler_that_cannot_read_a_predicted_variance_says_so(tmp_path: Path, sampler: str) -> None:
    _, ours = with_variance(tmp_path)
    ours.scheduler = ours.scheduler.renamed(sampler)
    with pytest.raises(UsageError, match=f"8 channels for latents of 4.*'{sampler}'.*take ddpm"):
        ours(prompt="a cat", image=picture(), num_inference_steps=4)
