"""What scripts written for the reference read, set and pass beside the call."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.pipelines import picture, write_checkpoint

from sdedit_cli import EulerDiscreteScheduler, HeunDiscreteScheduler, StableDiffusionImg2ImgPipeline
from sdedit_cli.errors import UsageError
from sdedit_cli.library.keywords import HARMLESS

pytestmark = [
    # The oracle's own notices: old array formats.
    pytest.mark.filterwarnings("ignore:.*:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*:DeprecationWarning"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sd15")


@pytest.fixture(scope="module")
def oracle(folder: Path) -> Any:
    return write_checkpoint(folder)


@pytest.fixture
def pipe(folder: Path, oracle: Any) -> StableDiffusionImg2ImgPipeline:
    return StableDiffusionImg2ImgPipeline.from_pretrained(folder)


def edited(pipe: Any, **call: Any) -> np.ndarray:
    call = {"prompt": "a cat", "image": picture(), "strength": 0.6, "num_inference_steps": 5, **call}
    return np.asarray(pipe(**call, generator=torch.Generator().manual_seed(3), output_type="np").images)


@pytest.mark.parametrize("name", ["unet", "vae", "text_encoder", "tokenizer"])
def test_a_component_of_another_library_is_told_by_its_name(
    name: str, pipe: StableDiffusionImg2ImgPipeline, oracle: Any
) -> None:
    own = getattr(pipe, name)
    setattr(pipe, name, getattr(oracle, name))
    with pytest.raises(TypeError, match=f"`{name}` is a (diffusers|transformers).*; expected sdedit's own"):
        edited(pipe)
    setattr(pipe, name, own)
    edited(pipe)


@pytest.mark.parametrize("generators", [1, 2])
@pytest.mark.parametrize("name", ["vae", "unet", "text_encoder"])
def test_networks_may_compute_in_precisions_of_their_own(
    name: str, generators: int, pipe: StableDiffusionImg2ImgPipeline
) -> None:
    """Scripts keep the autoencoder in single precision where half of it overflows."""
    seeds = [torch.Generator().manual_seed(seed) for seed in range(generators)]
    call: dict[str, Any] = {
        "prompt": ["a cat"] * generators,
        "image": picture(),
        "num_inference_steps": 3,
        "guidance_scale": 2.0,
    }
    before = pipe(**call, generator=[seed.clone_state() for seed in seeds], output_type="pt").images
    getattr(pipe, name).to(torch.bfloat16)
    after = pipe(**call, generator=seeds, output_type="pt").images
    assert after.dtype == pipe.vae.dtype
    assert (after.float() - before).abs().max() < 0.2
    latents = pipe(**call, generator=seeds, output_type="latent").images
    assert latents.dtype == pipe.unet.dtype
    assert pipe(**{**call, "image": latents}, output_type="np").images.shape == (generators, 32, 32, 3)


class Named(StableDiffusionImg2ImgPipeline):
    """With a constructor like the reference's own."""

    def __init__(
        self, vae: Any, text_encoder: Any, tokenizer: Any, unet: Any, scheduler: Any, safety_checker: Any,
        feature_extractor: Any, image_encoder: Any = None, requires_safety_checker: bool = True,
    ) -> None:  # fmt: skip
        super().__init__(
            vae, text_encoder, tokenizer, unet, scheduler, safety_checker, feature_extractor, image_encoder,
            requires_safety_checker,
        )  # fmt: skip
        self.own = 1


def test_a_subclass_with_the_references_constructor_can_be_loaded(folder: Path, oracle: Any) -> None:
    pipe = Named.from_pretrained(folder)
    assert (pipe.own, pipe.feature_extractor) == (1, None)


@pytest.mark.parametrize("part", ["unet", "vae"])
@pytest.mark.parametrize("mode", ["circular", "reflect"])
def test_convolutions_obey_the_padding_mode_that_scripts_set(
    mode: str, part: str, pipe: StableDiffusionImg2ImgPipeline, folder: Path, oracle: Any
) -> None:
    """The recipe of notebooks for pictures whose edges meet."""
    plain = edited(pipe)
    theirs = type(oracle).from_pretrained(folder)
    theirs.set_progress_bar_config(disable=True)
    for one in (pipe, theirs):
        for layer in getattr(one, part).modules():
            if isinstance(layer, torch.nn.Conv2d):
                layer.padding_mode = mode
    mine = edited(pipe)
    np.testing.assert_allclose(mine, edited(theirs), atol=1e-4)
    assert np.abs(mine - plain).max() > 1e-3


def test_a_pipeline_says_what_it_is(pipe: StableDiffusionImg2ImgPipeline, folder: Path, oracle: Any) -> None:
    config = pipe.config
    assert config._class_name == type(oracle).__name__
    assert config.requires_safety_checker is config["requires_safety_checker"] is False
    assert config.vae == ("sdedit_cli", "AutoencoderKL")
    assert config.safety_checker == (None, None)
    assert pipe.name_or_path == config._name_or_path == str(folder)
    assert config.keys() >= pipe.components.keys()
    assert pipe.vae_scale_factor == oracle.vae_scale_factor
    again = StableDiffusionImg2ImgPipeline(**pipe.components, requires_safety_checker=False)
    assert again.name_or_path is None


IMAGES = {
    "pil": picture(37, 29),
    "pils": [picture(), picture(seed=1)],
    "array": np.asarray(picture(35, 31), dtype=np.float32) / 255,
    "tensor": torch.rand(2, 3, 33, 32),
}


@pytest.mark.parametrize("size", [{}, {"height": 20, "width": 27}, {"height": 9}, {"width": 30}])
@pytest.mark.parametrize("image", IMAGES.values(), ids=IMAGES)
def test_the_image_processor_makes_the_oracles_tensors(
    pipe: StableDiffusionImg2ImgPipeline, oracle: Any, image: Any, size: dict[str, int]
) -> None:
    theirs = oracle.image_processor.preprocess(image, **size)
    ours = pipe.image_processor.preprocess(image, **size)
    assert torch.equal(ours, theirs)
    for kind in ("np", "pt", "pil", "latent"):
        made = (one.image_processor.postprocess(theirs, output_type=kind) for one in (pipe, oracle))
        assert np.array_equal(*(np.asarray(one) for one in made))
    kept = [False] * len(theirs)
    made = (one.image_processor.postprocess(theirs.abs(), "np", do_denormalize=kept) for one in (pipe, oracle))
    assert np.array_equal(*made)


def test_what_the_image_processor_cannot_make_is_told_as_a_call_tells_it(
    pipe: StableDiffusionImg2ImgPipeline, oracle: Any
) -> None:
    x_BCHW = torch.rand(2, 3, 8, 8)
    for word in ("np.array", "numpy", None):
        made = (one.image_processor.postprocess(x_BCHW, word) for one in (pipe, oracle))
        assert np.array_equal(*made)
    for kind in ("PIL", "tensor", 3):
        with pytest.raises(UsageError, match=f"output_type is {kind!r}; expected one of pil, np, pt, latent"):
            pipe.image_processor.postprocess(x_BCHW, kind)  # type: ignore[arg-type] # what is under test
    with pytest.raises(TypeError, match="image is a ndarray; expected a tensor"):
        pipe.image_processor.postprocess(np.zeros((1, 3, 8, 8)))  # type: ignore[arg-type] # what is under test


def test_a_bar_is_shown_when_it_is_asked_for(
    pipe: StableDiffusionImg2ImgPipeline, capsys: pytest.CaptureFixture[str]
) -> None:
    edited(pipe)
    assert list(pipe.progress_bar(range(3))) == [0, 1, 2]
    assert capsys.readouterr().err == ""
    for scheduler in (pipe.scheduler, HeunDiscreteScheduler.from_config(pipe.scheduler.config)):
        pipe.scheduler = scheduler  # a step of Heun calls the model twice, and counts once
        pipe.set_progress_bar_config(desc="editing", ascii=True)
        edited(pipe)
        assert "editing: 100%" in (told := capsys.readouterr().err)
        assert "3/3" in told
    with pipe.progress_bar(total=2) as bar:
        bar.update()
    assert "1/2" in capsys.readouterr().err
    pipe.set_progress_bar_config(disable=True)
    edited(pipe)
    assert capsys.readouterr().err == ""
    with pytest.raises(ValueError, match="`iterable` or `total`"):
        pipe.progress_bar()


def test_keywords_that_ask_for_nothing_are_accepted(folder: Path, oracle: Any, tmp_path: Path) -> None:
    nothing = {name: harmless.values[0] for name, harmless in HARMLESS.items()}
    pipe = StableDiffusionImg2ImgPipeline.from_pretrained(
        folder, **nothing, dtype=None, variant=None, use_safetensors=None, local_files_only=None, torch_dtype="float16"
    )
    assert pipe.dtype == torch.float16
    EulerDiscreteScheduler.from_pretrained(folder, subfolder="scheduler", **nothing)
    pipe.save_pretrained(tmp_path, push_to_hub=False, max_shard_size=None, variant=None)
    assert (tmp_path / "unet").is_dir()


def test_what_is_saved_and_how_may_be_told_by_place(pipe: StableDiffusionImg2ImgPipeline, tmp_path: Path) -> None:
    pipe.save_pretrained(tmp_path, True, "fp16", "1GB", False)
    assert (tmp_path / "unet" / "diffusion_pytorch_model.fp16.safetensors").is_file()
    with pytest.raises(UsageError, match="`push_to_hub` is True"):
        pipe.save_pretrained(tmp_path, True, None, None, True)


@pytest.mark.parametrize("name", HARMLESS)
def test_keywords_that_ask_for_what_is_not_done_are_refused_in_words(name: str, folder: Path) -> None:
    if True in HARMLESS[name].values:
        pytest.skip("asks for nothing whatever it says")
    with pytest.raises(UsageError, match=f"`{name}` is 'more', which is not done here: ."):
        StableDiffusionImg2ImgPipeline.from_pretrained(folder, **{name: "more"})


@pytest.mark.parametrize("steps", [None, 50])
@pytest.mark.parametrize("custom", [{"timesteps": [900, 600, 300, 50]}, {"sigmas": [10.0, 5.0, 2.0, 0.5]}])
def test_custom_nodes_need_no_number_of_steps(
    pipe: StableDiffusionImg2ImgPipeline, oracle: Any, custom: dict[str, Any], steps: int | None
) -> None:
    import diffusers

    pipe.scheduler = EulerDiscreteScheduler.from_config(pipe.scheduler.config)
    before = oracle.scheduler
    oracle.scheduler = diffusers.EulerDiscreteScheduler.from_config(before.config)
    theirs = edited(oracle, **custom)
    oracle.scheduler = before
    ours = edited(pipe, **custom, num_inference_steps=steps)
    np.testing.assert_allclose(ours, theirs, atol=1e-4, rtol=0)


def test_without_nodes_a_number_of_steps_is_needed(pipe: StableDiffusionImg2ImgPipeline) -> None:
    with pytest.raises(UsageError, match="num_inference_steps is None"):
        edited(pipe, num_inference_steps=None)


def test_the_built_in_model_has_a_name() -> None:
    pipe = StableDiffusionImg2ImgPipeline.from_pretrained("built-in")
    assert pipe.name_or_path == "built-in"
    assert pipe.native_size


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what is not there")
@pytest.mark.parametrize("place", ["cuda", torch.device("cuda", 1), "cuda:0"])
def test_a_device_that_is_not_there_is_refused_in_our_words(pipe: StableDiffusionImg2ImgPipeline, place: Any) -> None:
    for call in (lambda: pipe.to(place), lambda: pipe.to(device=place), lambda: pipe.to(place, torch.float16)):
        with pytest.raises(UsageError, match="is not there: this machine has"):
            call()
    assert pipe.to("cpu", torch.float32) is pipe


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        (("cpu", torch.bfloat16), {"silence_dtype_warnings": True}),
        ((torch.bfloat16,), {"device": "cpu", "non_blocking": True, "memory_format": torch.channels_last}),
        ((None, torch.bfloat16), {}),
        ((), {"device": torch.device("cpu"), "dtype": torch.bfloat16, "silence_dtype_warnings": False}),
    ],
)
def test_a_device_and_a_precision_may_be_told_in_either_way(
    pipe: StableDiffusionImg2ImgPipeline, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    assert pipe.to(*args, **kwargs) is pipe
    assert {pipe.unet.dtype, pipe.vae.dtype, pipe.dtype} == {torch.bfloat16}
    assert pipe.to(None).dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("args", "kwargs", "kind", "words"),
    [
        ((3.5,), {}, TypeError, "given 3.5; expected a device"),
        ((True,), {}, TypeError, "given True; expected a device"),
        ((torch.tensor(1.0, dtype=torch.float64),), {}, TypeError, "given tensor.*; expected a device"),
        ((torch.complex64,), {}, TypeError, "dtype is torch.complex64; expected one of torch.float16"),
        (("cpu",), {"dtype": torch.int8}, TypeError, "dtype is torch.int8; expected one of"),
        ((), {"torch_dtype": torch.float16}, ValueError, "`torch_dtype`: no such argument; did you mean 'dtype'"),
        (("cpu", "float16"), {}, ValueError, "given cpu and float16; expected one device"),
        ((torch.float16,), {"dtype": torch.float32}, ValueError, "torch.float16 and torch.float32; expected one dtype"),
        (("float16",), {}, ValueError, "device 'float16' is unknown"),
    ],
)
def test_what_is_no_device_or_precision_moves_nothing(
    pipe: StableDiffusionImg2ImgPipeline, args: Any, kwargs: Any, kind: type[Exception], words: str
) -> None:
    with pytest.raises(kind, match=words) as told:
        pipe.to(*args, **kwargs)
    assert isinstance(told.value, UsageError)
    assert {pipe.unet.dtype, pipe.vae.dtype} == {torch.float32}


@pytest.mark.filterwarnings("ignore:the prompt is longer")
@pytest.mark.parametrize("length", [2, 20, 24, 32])
def test_a_negative_text_beside_embeddings_has_their_length(length: int, folder: Path, oracle: Any) -> None:
    """Also where the tokenizer cuts earlier than the text encoder must: it is cut once, as the reference does."""
    ours: Any = StableDiffusionImg2ImgPipeline.from_pretrained(folder)
    settings = dataclasses.replace(ours.tokenizer._settings, model_max_length=24)
    ours.tokenizer = type(ours.tokenizer)(ours.tokenizer._engine, settings)
    embeds_BTC = torch.zeros(1, length, ours.text_encoder.config.hidden_size)
    for text in ("bird " * 40, "a bird"):
        found, wanted = (
            pipe.encode_prompt(None, "cpu", 1, True, negative_prompt=text, prompt_embeds=embeds_BTC)[1]
            for pipe in (ours, oracle)
        )
        assert found.shape == wanted.shape
        assert torch.allclose(found, wanted, atol=1e-5), text
