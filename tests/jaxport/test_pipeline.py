"""The JAX pipeline against the torch engine and the original's pictures; its arguments, files and errors.

Compiling is what costs, so that all tests share the few shapes of the module's models.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.jax_models import jax_original
from helpers.pipelines import picture

jax = pytest.importorskip("jax", reason="JAX is not installed: pip install 'sdedit-cli[test]'")
jnp = jax.numpy

from sdedit_cli import FlaxStableDiffusionImg2ImgPipeline, Scheduler, StableDiffusionImg2ImgPipeline
from sdedit_cli.errors import UsageError, WrongTypeError
from sdedit_cli.jaxport import FlaxStableDiffusionPipelineOutput, vae
from sdedit_cli.weights.write.convert import convert

SAMPLERS = ("ddim", "pndm", "lms", "dpmpp_2m", "euler", "unipc", "heun")
KEY = jax.random.PRNGKey(0)
TOLERANCE = 1e-3


@dataclass(frozen=True)
class Both:
    """One model in JAX, in torch (read from the folder that JAX saved), and that folder."""

    ours: FlaxStableDiffusionImg2ImgPipeline
    params: Any
    torch: StableDiffusionImg2ImgPipeline
    folder: Path

    def ids(self, *texts: str) -> np.ndarray:
        return np.array([self.ours.tokenizer.encode(text).ids for text in texts], dtype=np.int32)

    def pictures(self, image: np.ndarray, texts: list[str], negatives: list[str] | None, **call: Any) -> Any:
        """(JAX's, torch's) of one sampler, from the same latents and noise."""
        config = self.ours.vae.config
        mean, std = vae.encode(self.params["vae"], config, image.transpose(0, 2, 3, 1))
        drawn = np.asarray((mean + std * jax.random.normal(KEY, mean.shape)) * config.scaling_factor)
        latents = torch.from_numpy(drawn.transpose(0, 3, 1, 2).copy())
        noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(5))
        negative = None if negatives is None else self.ids(*negatives)
        got = self.ours(
            self.ids(*texts), image, self.params, KEY, noise=noise.numpy(), neg_prompt_ids=negative, **call
        ).images
        want = self.torch(
            prompt=texts,
            negative_prompt=negatives,
            image=latents,
            output_type="np",
            generator=torch.Generator().manual_seed(5),
            **call,
        ).images
        return got, want

    def take(self, scheduler: Scheduler) -> None:
        self.ours.scheduler = self.torch.scheduler = scheduler


def both(family: str, folder: Path) -> Both:
    ours, params = jax_original.pipeline(family)
    ours.save_pretrained(folder, params)
    return Both(ours, params, StableDiffusionImg2ImgPipeline.from_pretrained(folder), folder)


@pytest.fixture(scope="module")
def sd15(tmp_path_factory: pytest.TempPathFactory) -> Both:
    return both("sd15", tmp_path_factory.mktemp("sd15"))


@pytest.fixture(scope="module")
def sd21(tmp_path_factory: pytest.TempPathFactory) -> Both:
    return both("sd21-v", tmp_path_factory.mktemp("sd21"))


def sampler(pair: Both, name: str) -> Scheduler:
    return pair.ours.scheduler.renamed(name).modernised()


def test_every_sampler_gives_torchs_picture_at_every_strength(sd15: Both) -> None:
    image, _ = jax_original.inputs()
    compared = 0
    for name in SAMPLERS:
        sd15.take(sampler(sd15, name))
        for strength in (0.15, 0.6, 1.0):
            got, want = sd15.pictures(image, ["a cat"], ["blue"], strength=strength, num_inference_steps=7)
            assert np.isfinite(want).all()
            np.testing.assert_allclose(got, want, atol=TOLERANCE, err_msg=f"{name} {strength}")
            compared += 1
    assert compared == 3 * len(SAMPLERS)


def test_without_guidance_the_negative_prompt_is_left_out_and_the_picture_is_torchs(sd15: Both) -> None:
    image, _ = jax_original.inputs()
    call = {"strength": 0.6, "num_inference_steps": 5, "guidance_scale": 1.0}
    got, want = sd15.pictures(image, ["a cat"], None, **call)
    np.testing.assert_allclose(got, want, atol=TOLERANCE)


def test_two_prompts_at_an_odd_size_on_a_model_that_predicts_v(sd21: Both) -> None:
    pixels = np.stack([np.asarray(picture(26, 22, seed=seed), np.float32) / 127.5 - 1 for seed in (0, 1)])
    image, texts = pixels.transpose(0, 3, 1, 2), ["a cat", "a red dog"]
    compared = 0
    for name in ("ddim", "dpmpp_2m"):
        sd21.take(sampler(sd21, name))
        for negatives in (None, ["blue", ""]):
            got, want = sd21.pictures(image, texts, negatives, strength=0.7, num_inference_steps=4)
            np.testing.assert_allclose(got, want, atol=TOLERANCE, err_msg=f"{name} {negatives}")
            compared += 1
    assert compared == 4


def test_a_second_call_compiles_nothing_whatever_the_sampler_strength_and_steps(sd15: Both) -> None:
    image, noise = jax_original.inputs()
    sd15.take(sampler(sd15, "ddim"))
    call = {"noise": noise, "neg_prompt_ids": sd15.ids("blue")}
    sd15.ours(sd15.ids("a cat"), image, sd15.params, KEY, strength=0.3, num_inference_steps=4, **call)
    traced: list[str] = []
    jax.monitoring.register_event_duration_secs_listener(lambda event, *_, **__: traced.append(event))
    for name, steps, strength in (("ddim", 9, 0.5), ("euler", 6, 1.0), ("unipc", 60, 0.1)):
        sd15.take(sampler(sd15, name))
        changed = {**call, "strength": strength, "num_inference_steps": steps, "guidance_scale": 3.0}
        sd15.ours(sd15.ids("dog"), image, sd15.params, KEY, **changed)
    assert [event for event in traced if "trace" in event or "compile" in event] == []
    jnp.zeros(77) + 1  # the listener hears what is compiled
    assert traced


ORIGINAL = dict(np.load(jax_original.FIXTURE)) if jax_original.FIXTURE.exists() else {}


@pytest.mark.parametrize("family", ["sd15", pytest.param("sd21-v", marks=pytest.mark.slow)])
def test_the_originals_pictures_are_made(family: str) -> None:
    cases = [c for c in jax_original.CASES if c.family == family and ORIGINAL[c.name].ndim]
    assert {case.scheduler for case in cases} == set(jax_original.SCHEDULERS) - {"LMSDiscreteScheduler"}  # which fails
    mine = jax_original.ours(family, cases)
    for case in cases:
        np.testing.assert_allclose(mine[case.name], ORIGINAL[case.name], atol=TOLERANCE, err_msg=case.name)


def test_what_is_saved_is_read_again_in_any_format_to_the_bit(sd15: Both, tmp_path: Path) -> None:
    convert(sd15.folder, tmp_path / "model.safetensors")
    kind_of = FlaxStableDiffusionImg2ImgPipeline
    read = {
        "a folder of Flax's": kind_of.from_pretrained(sd15.folder, revision="flax", from_pt=False)[1],
        "a single file": kind_of.from_single_file(tmp_path / "model", config=sd15.folder)[1],
    }
    for kind, params in read.items():
        for slot, held in sd15.params.items():
            assert set(held) == set(params[slot]), kind
            assert all(np.array_equal(held[name], params[slot][name]) for name in held), kind
    half = kind_of.from_pretrained(sd15.folder, dtype=jnp.bfloat16)
    assert {array.dtype for arrays in half[1].values() for array in arrays.values()} == {jnp.dtype(jnp.bfloat16)}
    half[0].save_pretrained(tmp_path / "half", half[1])
    again = kind_of.from_pretrained(tmp_path / "half", dtype=jnp.bfloat16)[1]
    assert np.array_equal(again["unet"]["conv_in.weight"], half[1]["unet"]["conv_in.weight"])


def test_inputs_are_prepared_as_the_original_does(sd15: Both) -> None:
    ids, image = sd15.ours.prepare_inputs(["a cat", "a dog"], [picture(70, 45), picture(80, 40)][:1] * 2)
    assert ids.shape == (2, sd15.ours.tokenizer.model_max_length)
    assert image.shape == (2, 3, 32, 64)
    assert float(jnp.abs(image).max()) <= 1.0
    assert sd15.ours.prepare_inputs("a cat", picture())[1].shape == (1, 3, 32, 32)


@pytest.mark.parametrize(
    ("prompt", "image", "words"),
    [
        (7, picture(), "`prompt` has to be of type `str` or `list`"),
        (["a", 7], picture(), "list of `str`"),
        ("a", np.zeros((32, 32, 3)), "image has to be of type `PIL.Image.Image` or list"),
        ("a", ["b"], "list of `PIL.Image.Image`"),
    ],
)
def test_inputs_of_another_type_are_refused_in_the_originals_words(
    sd15: Both, prompt: Any, image: Any, words: str
) -> None:
    with pytest.raises(WrongTypeError, match=words):
        sd15.ours.prepare_inputs(prompt, image)


IMAGE, NOISE = jax_original.inputs()
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "jit without a leading axis": ({"jit": True}, "leading axis of devices, as `shard` makes it"),
    "a leading axis without jit": ({"prompt_ids": np.zeros((1, 1, 32), int), "image": IMAGE[None]}, "for jit=True"),
    "no multiple": ({"height": 31}, "divisible by 2 but are 31 and 32"),
    "another size": ({"height": 64, "width": 64}, "the picture has 32 and 32"),
    "noise of another shape": ({"noise": NOISE[:, :, :8]}, "Unexpected latents shape"),
    "guidance of another shape": ({"guidance_scale": np.ones(3)}, "guidance_scale has the shape"),
    "too many pictures": ({"image": IMAGE.repeat(2, axis=0)}, "give one for each"),
    "negative prompts of another shape": ({"neg_prompt_ids": np.zeros((2, 32), int)}, "neg_prompt_ids"),
    "strength": ({"strength": 2.0}, "strength is 2, expected 0 to 1"),
    "steps that are no number": ({"num_inference_steps": "4"}, "num_inference_steps has to be of type `int`"),
    "prompts": ({"prompt_ids": np.zeros((3, 32), int)}, "3 prompts for 1 pictures"),
    "texts for ids": ({"prompt_ids": ["a cat"]}, "give what `prepare_inputs` makes of the prompts"),
    "no prompts": ({"prompt_ids": None}, "give what `prepare_inputs` makes"),
    "no params": ({"params": None}, "params has no 'unet'; give what the loader gave"),
    "other params": ({"params": {"unet": {}}}, "params has no 'vae'"),
    "a seed that is no key": ({"prng_seed": 3}, "prng_seed is 3; expected a key, such as jax.random.PRNGKey(3)"),
    "a strength that is no number": ({"strength": "0.5"}, "strength is '0.5'; expected a number"),
    "guidance that is no number": ({"guidance_scale": "7"}, "guidance_scale is '7'; expected a number"),
    "no step": ({"strength": 0.01, "num_inference_steps": 10}, "no step at all"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_call_that_cannot_be_meant_is_refused_in_one_line(sd15: Both, case: str) -> None:
    changes, words = REFUSED[case]
    call = {"prompt_ids": sd15.ids("a cat"), "image": IMAGE, "params": sd15.params, "prng_seed": KEY, **changes}
    with pytest.raises(UsageError) as error:
        sd15.ours(**call)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_adapters_and_unknown_options_are_refused_by_name(sd15: Both) -> None:
    with pytest.raises(UsageError, match="LoRA"):
        sd15.ours.load_lora_weights("x.safetensors")
    with pytest.raises(UsageError, match="IP-Adapter"):
        sd15.ours.load_ip_adapter("x")
    with pytest.raises(UsageError, match="did you mean 'revision'"):
        FlaxStableDiffusionImg2ImgPipeline.from_pretrained(sd15.folder, revison="flax")
    with pytest.raises(UsageError, match=r"scheduler is 'eular'; expected one of sdedit_cli"):
        FlaxStableDiffusionImg2ImgPipeline.from_pretrained(sd15.folder, scheduler="eular")


def test_the_output_is_a_value_that_can_be_changed_and_taken_apart() -> None:
    output = FlaxStableDiffusionPipelineOutput(np.zeros((1, 4, 4, 3)), False)
    assert output.replace(nsfw_content_detected=[True]).nsfw_content_detected == [True]
    assert output[0] is output["images"] is output.to_tuple()[0]
    (made,) = FlaxStableDiffusionImg2ImgPipeline.numpy_to_pil(np.ones((4, 5, 3)))
    assert made.size == (5, 4)
    assert made.getpixel((0, 0)) == (255, 255, 255)
