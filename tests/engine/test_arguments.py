"""What a pipeline call refuses, and in which words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.pipelines import picture, write_checkpoint
from PIL import Image

from sdedit_cli import StableDiffusionImg2ImgPipeline
from sdedit_cli.errors import ModelError, UsageError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sd15")
    write_checkpoint(folder, "sd15")
    return folder


@pytest.fixture(scope="module")
def pipe(folder: Path) -> Any:
    return StableDiffusionImg2ImgPipeline.from_pretrained(folder)


EMBEDS = torch.zeros(1, 32, 32)
BOTH = ("prompt_embeds", "negative_prompt_embeds")
REFUSED: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"strength": 1.2}, ValueError, "strength is 1.2"),
    ({"strength": -0.1}, ValueError, "strength is -0.1"),
    ({"strength": 0.0}, ValueError, "use a strength of 0.25 or more"),
    ({"strength": 0.02}, ValueError, "rounds to no step"),
    ({"num_inference_steps": 0}, ValueError, "num_inference_steps is 0"),
    ({"prompt": None}, ValueError, "`prompt` or `prompt_embeds`"),
    ({"prompt": 3}, ValueError, "`prompt` is a int"),
    ({"prompt_embeds": EMBEDS}, ValueError, "not both"),
    ({"negative_prompt": "x", "negative_prompt_embeds": EMBEDS}, ValueError, "not both"),
    ({"negative_prompt": ["x"]}, TypeError, "two strings or two lists"),
    ({"prompt": ["a", "b"], "negative_prompt": ["x"]}, ValueError, "1 texts for 2 prompts"),
    ({"prompt": None, "prompt_embeds": EMBEDS, "negative_prompt_embeds": EMBEDS[:, :5]}, ValueError, "one shape"),
    ({"image": None}, ValueError, "give `image`"),
    ({"image": "photo.png"}, ValueError, "got str"),
    ({"image": []}, ValueError, "list is empty"),
    ({"image": picture(1, 1)}, ValueError, "under 2 px"),
    ({"image": np.zeros((8, 8, 3), np.uint8)}, ValueError, "divide by 255"),
    ({"image": [picture()] * 3, "prompt": ["a", "b"]}, ValueError, "3 pictures for 2"),
    ({"generator": [torch.Generator()] * 2}, ValueError, "2 for 1 pictures"),
    ({"output_type": "jpeg"}, ValueError, "expected one of pil"),
    ({"timesteps": [9, 5], "sigmas": [1.0, 0.5]}, ValueError, "not both"),
    ({"callback": print}, ValueError, "use `callback_on_step_end`"),
    ({"callback_steps": 1}, ValueError, "use `callback_on_step_end`"),
    ({"strenght": 1}, ValueError, "no such argument"),
    ({"callback_on_step_end_tensor_inputs": ["noise"]}, ValueError, "'noise'"),
    ({"callback_on_step_end": lambda *a: {"noise": 1}}, ValueError, "the callback returned 'noise'"),
    ({"ip_adapter_image": picture()}, ValueError, "none is loaded"),
    ({"clip_skip": 9}, ValueError, "3 layers"),
    ({"prompt": []}, ValueError, "one or more strings"),
    ({"prompt": [3]}, ValueError, "one or more strings"),
    ({"generator": "x"}, TypeError, "a torch.Generator"),
    ({"generator": 5}, TypeError, "a torch.Generator"),
    ({"num_inference_steps": 3.0}, TypeError, "a whole number"),
    ({"num_inference_steps": True}, TypeError, "num_inference_steps is True; expected a whole number"),
    ({"num_images_per_prompt": 1.5}, TypeError, "a whole number"),
    ({"num_images_per_prompt": 0}, ValueError, "1 or more"),
    ({"strength": "0.5"}, TypeError, "a number from 0 to 1"),
    ({"negative_prompt_embeds": torch.zeros(2, 32, 32)}, ValueError, "expected one shape"),
    ({"prompt": ["a", "b"], "negative_prompt_embeds": torch.zeros(1, 32, 32)}, ValueError, "expected one shape"),
    ({"prompt": None, "prompt_embeds": torch.zeros(1, 64, 32)}, ValueError, "give `negative_prompt_embeds`"),
    ({"image": np.zeros((8, 8, 1), np.float32)}, ValueError, "need 3 channels; got 1"),
    ({"image": Image.new("F", (8, 8))}, ValueError, "no fixed range"),
    ({"cross_attention_kwargs": {"scale": "0.5"}}, TypeError, "'scale' is '0.5'; expected a number"),
    ({"cross_attention_kwargs": {"scale": float("nan")}}, ValueError, "expected a finite number"),
    ({"callback_on_step_end": lambda *a: {"latents": torch.zeros(2, 4, 16, 16)}}, ValueError, "returned latents"),
    ({"callback_on_step_end": lambda *a: {"prompt_embeds": EMBEDS}}, ValueError, "2"),
    ({"strength": None}, TypeError, "strength is None; expected a number from 0 to 1"),
    ({"strength": torch.tensor([0.5, 0.6])}, TypeError, "expected a number from 0 to 1"),
    ({"strength": float("nan")}, ValueError, "expected a finite number from 0 to 1"),
    ({"guidance_scale": "7"}, TypeError, "guidance_scale is '7'; expected a number"),
    ({"guidance_scale": [7.5]}, TypeError, "expected a number"),
    ({"guidance_scale": np.array([7.5, 7.5])}, TypeError, "expected a number"),
    ({"guidance_scale": np.array("7.5")}, TypeError, "expected a number"),
    ({"guidance_scale": float("inf")}, ValueError, "expected a finite number"),
    ({"eta": "x"}, TypeError, "eta is 'x'; expected a number"),
    ({"eta": float("nan")}, ValueError, "expected a finite number"),
    ({"clip_skip": 1.0}, TypeError, "clip_skip is 1.0; expected a whole number"),
    ({"clip_skip": "1"}, TypeError, "expected a whole number"),
    ({"prompt": None, "prompt_embeds": EMBEDS.numpy()}, TypeError, "`prompt_embeds` is a ndarray; expected a tensor"),
    ({"prompt": None, "prompt_embeds": [EMBEDS]}, TypeError, "is a list; expected a tensor"),
    ({"negative_prompt_embeds": EMBEDS.numpy()}, TypeError, "`negative_prompt_embeds` is a ndarray"),
    ({"prompt": None, "prompt_embeds": EMBEDS[:0]}, ValueError, r"has shape \(0, 32, 32\)"),
    ({"prompt": None, **dict.fromkeys(BOTH, torch.zeros(1, 32, 48))}, ValueError, "have 48 channels.* reads 32"),
    ({"prompt": None, "prompt_embeds": torch.zeros(1, 32, 48), "guidance_scale": 1}, ValueError, "have 48 channels"),
    ({"cross_attention_kwargs": "x"}, TypeError, "is a str; expected a dict"),
    ({"callback_on_step_end": "x"}, TypeError, "callback_on_step_end is a str; expected a function"),
    ({"callback_on_step_end": lambda *a: (EMBEDS,)}, TypeError, "the callback returned a tuple; expected a dict"),
    ({"callback_on_step_end": lambda *a: {"latents": None}}, TypeError, "a NoneType as latents; expected a tensor"),
    ({"callback_on_step_end": lambda *a: {"prompt_embeds": [1]}}, TypeError, "a list as prompt_embeds"),
    ({"image": torch.full((3, 8, 8), float("nan"))}, ValueError, "values that are not finite"),
    ({"image": np.full((8, 8, 3), np.inf, np.float32)}, ValueError, "values that are not finite"),
    ({"image": torch.zeros(0, 3, 8, 8)}, ValueError, r"shape \(0, 3, 8, 8\), with nothing in it"),
    ({"image": torch.zeros(0, 4, 8, 8)}, ValueError, "with nothing in it"),
    ({"image": np.zeros((0, 8, 8, 3), np.float32)}, ValueError, "with nothing in it"),
    ({"image": torch.zeros(1, 4, 8, 8, device="meta")}, ValueError, "holds no numbers"),
    ({"image": torch.zeros(3, 8, 8).to_sparse()}, ValueError, "layout sparse_coo; expected a dense one"),
    ({"image": torch.zeros(1, 4, 8, 8, dtype=torch.complex64)}, ValueError, "values are torch.complex64"),
    ({"image": torch.zeros(1, 4, 8, 8, dtype=torch.int64)}, ValueError, "values are torch.int64"),
    ({"image": np.zeros((8, 8, 3), object)}, ValueError, "values are object; expected floats in 0..1"),
    ({"prompt": None, "prompt_embeds": EMBEDS.to("meta")}, ValueError, "`prompt_embeds`: is .* holds no numbers"),
    ({"prompt": None, "prompt_embeds": EMBEDS.long()}, ValueError, "values are torch.int64"),
    (
        {"negative_prompt_embeds": EMBEDS.to_sparse()},
        ValueError,
        "`negative_prompt_embeds`: .* layout sparse_coo",
    ),
    ({"callback_on_step_end_tensor_inputs": 5}, TypeError, r"is 5; expected a list such as \['latents'\]"),
    ({"callback_on_step_end_tensor_inputs": "latents"}, TypeError, "is 'latents'; expected a list"),
]


@pytest.mark.parametrize(("call", "kind", "words"), REFUSED)
def test_a_call_that_cannot_be_meant_is_refused(
    pipe: Any, call: dict[str, Any], kind: type[Exception], words: str
) -> None:
    call = {"prompt": "a cat", "image": picture(), "num_inference_steps": 4} | call
    with pytest.raises(kind, match=words) as caught:
        pipe(**call)
    assert isinstance(caught.value, UsageError)
    assert len(str(caught.value).splitlines()) <= 2


ALIKE: tuple[tuple[dict[str, Any], dict[str, Any]], ...] = (
    ({"strength": torch.tensor(0.5)}, {"strength": 0.5}),
    ({"strength": np.float32(0.5)}, {"strength": 0.5}),
    ({"guidance_scale": torch.tensor([3.0])}, {"guidance_scale": 3}),
    ({"guidance_scale": np.int64(3)}, {"guidance_scale": 3.0}),
    ({"guidance_scale": np.array(3.0)}, {"guidance_scale": 3}),
    ({"strength": np.array([0.5])}, {"strength": 0.5}),
    ({"eta": torch.tensor(0.5)}, {"eta": np.float64(0.5)}),
    ({"num_images_per_prompt": True}, {"num_images_per_prompt": 1}),
    ({"clip_skip": np.int64(1)}, {"clip_skip": 1}),
    ({"num_inference_steps": np.int64(4)}, {}),
)


@pytest.mark.parametrize(("one", "other"), ALIKE, ids=[str(one) for one, _ in ALIKE])
def test_a_number_is_a_number_whatever_holds_it(pipe: Any, one: dict[str, Any], other: dict[str, Any]) -> None:
    call = {"prompt": "a cat", "image": picture(), "num_inference_steps": 4, "output_type": "pt"}
    images = [pipe(**call | more, generator=torch.Generator().manual_seed(3)).images for more in (one, other)]
    assert torch.equal(*images)


def test_a_result_that_is_no_picture_is_told(pipe: Any) -> None:
    """As in the reference it is given all the same, and PIL's pictures of it are black."""
    call = {"prompt": "a cat", "image": picture(), "num_inference_steps": 4, "eta": 2.0}
    with pytest.warns(UserWarning, match="numbers that are not finite.* an eta of at most 1") as told:
        image = pipe(**call).images[0]
    assert len(told) == 1
    assert not np.asarray(image).any()
    with pytest.warns(UserWarning, match="not finite"):
        assert np.isnan(pipe(**call, output_type="np").images).all()


def test_strengths_of_no_adapters_have_no_effect(pipe: Any) -> None:
    """Scripts for the reference give them whether they loaded something or not."""
    call = {"prompt": "a cat", "image": picture(), "num_inference_steps": 2, "output_type": "pt"}

    def made(**more: Any) -> Any:
        return pipe(**call, **more, generator=torch.Generator().manual_seed(3)).images

    plain = made()
    for scale in (0.5, 0, None):
        assert torch.equal(made(cross_attention_kwargs={"scale": scale}), plain)
    encoded = [pipe.encode_prompt("a cat", lora_scale=scale)[0] for scale in (None, 0.5)]
    assert torch.equal(*encoded)
    with pytest.raises(TypeError, match="lora_scale is 'x'"):
        pipe.encode_prompt("a cat", lora_scale="x")


def test_truncation_warns_and_quotes_what_was_cut(pipe: Any) -> None:
    text = "apple " * 40 + "zebra"
    with pytest.warns(UserWarning, match="zebra"):
        pipe(prompt=text, image=picture(), num_inference_steps=2, strength=0.5)


def test_parts_given_to_the_loader_are_taken_as_they_are(pipe: Any, folder: Path) -> None:
    again = StableDiffusionImg2ImgPipeline.from_pretrained(folder, unet=pipe.unet, scheduler=pipe.scheduler)
    assert again.unet is pipe.unet
    assert again.vae is not pipe.vae
    rebuilt = StableDiffusionImg2ImgPipeline(**again.components)
    assert rebuilt.components == again.components


def test_unknown_loading_options_and_missing_parts_are_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="did you mean 'variant'"):
        StableDiffusionImg2ImgPipeline.from_pretrained(folder, varient="fp16")
    with pytest.raises(ModelError):
        StableDiffusionImg2ImgPipeline.from_pretrained(tmp_path)


def test_a_tuple_when_asked_for(pipe: Any) -> None:
    call = {"prompt": "a", "image": picture(), "num_inference_steps": 2, "strength": 0.5}
    images, flags = pipe(**call, return_dict=False)
    assert images[0].size == (32, 32)
    assert flags is None


def test_dtype_and_device_move_together(folder: Path) -> None:
    pipe = StableDiffusionImg2ImgPipeline.from_pretrained(folder, torch_dtype=torch.bfloat16)
    assert pipe.dtype == torch.bfloat16
    images = pipe(prompt="a", image=picture(), num_inference_steps=2, strength=0.5, output_type="pt").images
    assert images.dtype == torch.bfloat16
    assert pipe.to("cpu", torch.float32).vae.dtype == torch.float32


def test_a_callback_that_turns_guidance_off_must_trim_the_embeddings(pipe: Any) -> None:
    """The rows that are left would be the negative prompt's."""

    def cut(pipe: Any, *_: Any) -> dict[str, Any]:
        pipe._guidance_scale = 0.0
        return {}

    with pytest.raises(UsageError, match="1 pictures without guidance; return prompt_embeds with 1"):
        pipe(prompt="a", image=picture(), num_inference_steps=4, callback_on_step_end=cut)


def test_a_deep_picture_keeps_its_tones(pipe: Any) -> None:
    ramp = np.tile(np.linspace(0, 65535, 32).astype(np.uint16), (32, 1))
    eight = np.repeat((ramp / 257).round().astype(np.float32)[..., None] / 255, 3, axis=-1)
    call = {"prompt": "a", "num_inference_steps": 4, "output_type": "np"}
    deep, plain = (
        pipe(**call, image=image, generator=torch.Generator().manual_seed(0)).images
        for image in (Image.fromarray(ramp), eight)
    )
    np.testing.assert_allclose(deep, plain, atol=1e-5)


class Elsewhere:
    """A scheduler of another library."""

    config = {"beta_schedule": "scaled_linear", "num_train_timesteps": 1000}  # noqa: RUF012 -- read, never written


def test_parts_of_other_libraries_are_converted_or_refused(pipe: Any) -> None:
    elsewhere = type("EulerDiscreteScheduler", (Elsewhere,), {})()
    assert StableDiffusionImg2ImgPipeline(**pipe.components | {"scheduler": elsewhere}).scheduler.name == "euler"
    for name, stranger in {"vae": torch.nn.Linear(1, 1), "unet": None, "tokenizer": [], "scheduler": "euler"}.items():
        with pytest.raises(TypeError, match=f"`{name}` is a"):
            StableDiffusionImg2ImgPipeline(**pipe.components | {name: stranger})


def test_a_dtype_by_name(folder: Path) -> None:
    for options in ({"torch_dtype": "float16"}, {"dtype": torch.float16, "low_cpu_mem_usage": True}):
        assert StableDiffusionImg2ImgPipeline.from_pretrained(folder, **options).dtype == torch.float16
    with pytest.raises(TypeError, match="torch_dtype is 'auto'"):
        StableDiffusionImg2ImgPipeline.from_pretrained(folder, torch_dtype="auto")


def test_no_output_type_is_an_array_and_outputs_are_read_by_name(pipe: Any) -> None:
    out = pipe(prompt="a", image=picture(), num_inference_steps=4, output_type=None)
    assert isinstance(out.images, np.ndarray)
    assert out["images"] is out[0] is out.images
    assert list(out) == list(out.keys()) == ["images", "nsfw_content_detected"]
    assert dict(out.items()) == {**out} == {"images": out.images, "nsfw_content_detected": None}
    assert [one is out.images for one in out.values()] == [True, False]
    assert out.get("images") is out.images
    assert out.get("image", 5) == 5
    assert 0 not in out
    with pytest.raises(KeyError):
        out["picture"]


@pytest.mark.parametrize("sampler", ["pndm", "heun"])
def test_no_strength_runs_no_step_of_any_solver(pipe: Any, sampler: str) -> None:
    """Grids of these hold more entries than steps, so an entry left over is not yet a step to run."""
    before = pipe.scheduler
    pipe.scheduler = before.renamed(sampler)
    try:
        with pytest.raises(UsageError, match="rounds to no step"):
            pipe(prompt="a", image=picture(), num_inference_steps=7, strength=0.0)
    finally:
        pipe.scheduler = before
