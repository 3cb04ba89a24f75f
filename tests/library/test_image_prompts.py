"""IP-Adapters of a pipeline among its other features, what a call refuses, and what is as before after unloading."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.ip_adapters import Nested, adapter, extractor, image_encoder, save_adapter
from helpers.loras import DIALECTS, factors
from helpers.pipelines import picture, write_checkpoint
from helpers.tiny.networks import tiny_unet
from torch import Tensor

from sdedit_cli import StableDiffusionImg2ImgPipeline
from sdedit_cli.errors import ModelError, UsageError

A, B = (picture(40, 48, seed=seed) for seed in (31, 32))


@pytest.fixture(scope="module")
def states(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Nested]]:
    """A model's folder without an image encoder; adapters and an encoder lie in folders of another one."""
    place = tmp_path_factory.mktemp("models")
    theirs = write_checkpoint(place / "model", "sd15")
    made_of = {variant: adapter(variant, theirs.unet) for variant in ("base", "plus")}
    for variant, state in made_of.items():
        save_adapter(place / "adapters" / "sd" / f"{variant}.bin", state)
    image_encoder().save_pretrained(place / "adapters" / "sd" / "image_encoder")
    image_encoder(projection_dim=28).save_pretrained(place / "other")
    return place, made_of


@pytest.fixture
def pipe(states: tuple[Path, Any]) -> StableDiffusionImg2ImgPipeline:
    return StableDiffusionImg2ImgPipeline.from_pretrained(states[0] / "model")


@pytest.fixture
def adapted(pipe: StableDiffusionImg2ImgPipeline, states: tuple[Path, Any]) -> StableDiffusionImg2ImgPipeline:
    pipe.load_ip_adapter(states[0] / "adapters", subfolder="sd", weight_name="base.bin")
    return pipe


def made(pipe: Any, **call: Any) -> Tensor:
    asked = {"prompt": "a cat", "image": picture(), "num_inference_steps": 3, "output_type": "pt"} | call
    return pipe(**asked, generator=torch.Generator().manual_seed(3)).images


def test_what_came_with_adapters_goes_with_them_and_what_was_there_stays(
    pipe: StableDiffusionImg2ImgPipeline, states: tuple[Path, Any]
) -> None:
    plain, folder = made(pipe), states[0] / "adapters"
    networks = {name: {k: v.clone() for k, v in pipe.components[name].state_dict().items()} for name in ("unet", "vae")}
    pipe.load_ip_adapter(str(folder), "sd", "base.bin")
    assert pipe.image_encoder is not None
    assert pipe.feature_extractor is not None
    first = made(pipe, ip_adapter_image=A)
    pipe.load_ip_adapter(str(folder), "sd", ["plus.bin", "base.bin"])
    assert not torch.equal(made(pipe, ip_adapter_image=[A, A]), first)
    pipe.unload_ip_adapter()
    assert (pipe.image_encoder, pipe.feature_extractor) == (None, None)
    assert torch.equal(made(pipe), plain)
    own, prepares = image_encoder(), extractor()
    pipe.image_encoder, pipe.feature_extractor = own, prepares
    pipe.load_ip_adapter(folder / "sd" / "base.bin", image_encoder_folder="nowhere")
    assert torch.allclose(made(pipe, ip_adapter_image=A), first, atol=1e-5)
    pipe.unload_ip_adapter()
    assert (pipe.image_encoder, pipe.feature_extractor) == (own, prepares)
    for name, before in networks.items():
        assert all(torch.equal(before[k], v) for k, v in pipe.components[name].state_dict().items())


def test_the_image_encoder_is_found(
    pipe: StableDiffusionImg2ImgPipeline, states: tuple[Path, dict[str, Nested]]
) -> None:
    """Beside a file, in a folder that is named within the source or anywhere; without one, embeddings do."""
    place, made_of = states
    file = place / "adapters" / "sd" / "base.bin"
    pipe.load_ip_adapter(file)
    wanted = made(pipe, ip_adapter_image=A)
    embeds = pipe.prepare_ip_adapter_image_embeds(A, None, None, 1, True)
    for source, folder in ((place, "adapters/sd/image_encoder"), (file, str(file.parent / "image_encoder"))):
        pipe.unload_ip_adapter()
        pipe.load_ip_adapter(source, "adapters/sd", "base.bin", image_encoder_folder=folder)
        assert torch.equal(made(pipe, ip_adapter_image=A), wanted)
    pipe.unload_ip_adapter()
    pipe.load_ip_adapter(made_of["base"], image_encoder_folder=None)
    assert pipe.image_encoder is None
    assert torch.equal(made(pipe, ip_adapter_image_embeds=embeds), wanted)
    with pytest.raises(UsageError, match="has no image encoder"):
        made(pipe, ip_adapter_image=A)


def test_what_does_not_fit_changes_nothing(pipe: StableDiffusionImg2ImgPipeline, states: tuple[Path, Any]) -> None:
    place, made_of = states
    file, plain = place / "adapters" / "sd" / "base.bin", made(pipe)
    half = {"image_proj": made_of["base"]["image_proj"]}
    for arguments, error, said in (
        ((half,), ModelError, "half an IP-Adapter"),
        ((made_of["base"],), UsageError, "a state dict brings none"),
        ((file, None, None, str(place / "other")), ModelError, "image encoder .*other have 28"),
        ((file, None, None, "gone"), ModelError, "there is no image encoder"),
        ((place / "adapters", "sd", ["base.bin", "plus.bin", "gone.bin"]), ModelError, "gone.bin: no such file"),
        (([file, file], None, ["a", "b", "c"]), UsageError, "the source has 2 entries for 3"),
    ):
        with pytest.raises(error, match=said):
            pipe.load_ip_adapter(*arguments)
        assert (pipe.image_encoder, pipe.feature_extractor) == (None, None)
    assert torch.equal(made(pipe), plain)
    with pytest.raises(UsageError, match="no option `subfolders`"):
        pipe.load_ip_adapter(file, subfolders="x")


def test_what_a_call_cannot_mean_is_refused(adapted: StableDiffusionImg2ImgPipeline) -> None:
    embeds, mask = torch.zeros(2, 1, 20), torch.ones(1, 1, 8, 8)
    masked = {"ip_adapter_image": A, "cross_attention_kwargs": {"ip_adapter_masks": None}}
    for call, said in (
        ({}, "an IP-Adapter is loaded: give `ip_adapter_image`"),
        ({"ip_adapter_image": A, "ip_adapter_image_embeds": [embeds]}, "not both"),
        ({"ip_adapter_image": [A, B]}, "2 entries for 1 IP-Adapters"),
        ({"ip_adapter_image": "x"}, "has str, which is no picture"),
        ({"ip_adapter_image": [[]]}, "an empty list"),
        ({"ip_adapter_image": torch.rand(1, 3, 20, 20)}, r"takes pictures \(3, 32, 32\)"),
        ({"ip_adapter_image_embeds": embeds}, "expected a list of tensors"),
        ({"ip_adapter_image_embeds": [embeds, embeds]}, "2 tensors for 1"),
        ({"ip_adapter_image_embeds": ["x"]}, "holds a str"),
        ({"ip_adapter_image_embeds": [embeds[0]]}, r"takes \(rows, pictures, 20\)"),
        ({"ip_adapter_image_embeds": [torch.zeros(2, 1, 24)]}, r"takes \(rows, pictures, 20\)"),
        ({"ip_adapter_image_embeds": [torch.zeros(3, 1, 20)]}, "the negative ones first"),
        ({"ip_adapter_image_embeds": [torch.zeros(6, 1, 20)]}, "3 rows for 1 prompts"),
        *(
            ({**masked, "cross_attention_kwargs": {"ip_adapter_masks": masks}}, said)
            for masks, said in (
                ([mask, mask], "a list of 1 tensors"),
                ("x", "a list of 1 tensors"),
                (["x"], "holds str"),
                ([mask[0]], r"holds \(1, 8, 8\)"),
                ([mask.expand(1, 2, 8, 8)], "for 1 pictures"),
            )
        ),
    ):
        with pytest.raises(UsageError, match=said):
            made(adapted, **call)
    adapted.unload_ip_adapter()
    for call in (
        {"ip_adapter_image": A},
        {"ip_adapter_image_embeds": [embeds]},
        {"cross_attention_kwargs": {"ip_adapter_masks": [mask]}},
    ):
        with pytest.raises(UsageError, match="none is loaded"):
            made(adapted, **call)


def test_other_features_do_not_disturb_image_prompts(
    adapted: StableDiffusionImg2ImgPipeline, tmp_path: Path, states: tuple[Path, Any]
) -> None:
    """Copies, fused projections, slices, offloading and a LoRA that comes and goes; a saved model is the base."""
    wanted = made(adapted, ip_adapter_image=A)
    assert torch.equal(made(copy.deepcopy(adapted), ip_adapter_image=A), wanted)

    def is_as_wanted() -> bool:
        return torch.allclose(made(adapted, ip_adapter_image=A), wanted, atol=1e-5)

    adapted.fuse_qkv_projections()
    assert is_as_wanted()
    adapted.enable_attention_slicing("max")
    assert is_as_wanted()
    adapted.unfuse_qkv_projections()
    adapted.disable_attention_slicing()
    adapted.enable_model_cpu_offload(device="cpu")
    assert is_as_wanted()
    adapted.to("cpu")
    adapted.load_lora_weights(DIALECTS["kohya"](adapted, factors(adapted)))
    assert not is_as_wanted()
    adapted.unload_lora_weights()
    assert torch.equal(made(adapted, ip_adapter_image=A), wanted)
    adapted.save_pretrained(tmp_path / "saved")
    again = StableDiffusionImg2ImgPipeline.from_pretrained(tmp_path / "saved")
    adapted.unload_ip_adapter()
    assert torch.equal(made(again), made(adapted))
    assert type(again.image_encoder).__name__ == "CLIPVisionModelWithProjection"
    again.load_ip_adapter(states[0] / "adapters" / "sd" / "base.bin")
    assert torch.allclose(made(again, ip_adapter_image=A), wanted, atol=1e-5)


def test_adapters_go_where_the_pipeline_goes(adapted: StableDiffusionImg2ImgPipeline) -> None:
    wanted = made(adapted, ip_adapter_image=A)
    adapted.to(torch.bfloat16)
    assert {p.dtype for network in adapted.ip_networks for p in network.parameters()} == {torch.bfloat16}
    assert adapted.image_encoder.dtype == torch.bfloat16
    near = made(adapted, ip_adapter_image=A).float()
    assert 0 < (near - wanted).abs().max() < 0.2


def test_another_unet_needs_its_adapter_loaded_anew(adapted: StableDiffusionImg2ImgPipeline, tmp_path: Path) -> None:
    adapted.unet = copy.deepcopy(adapted.unet)
    made(adapted, ip_adapter_image=A)
    adapted.unet = tiny_unet("sd15")
    with pytest.raises(UsageError, match="loaded for another UNet"):
        made(adapted, ip_adapter_image=A)


def test_callbacks_may_change_the_text_and_turn_guidance_off(adapted: StableDiffusionImg2ImgPipeline) -> None:
    """The image prompt goes on with the rows that are left."""

    def off(pipe: Any, step: int, _: Any, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        if step == 0:
            pipe._guidance_scale = 1.0
            return {"prompt_embeds": tensors["prompt_embeds"].chunk(2)[-1]}
        return {}

    def same(pipe: Any, step: int, _: Any, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"prompt_embeds": tensors["prompt_embeds"].clone()}

    asked = {"callback_on_step_end_tensor_inputs": ["prompt_embeds"]}
    wanted = made(adapted, ip_adapter_image=A)
    assert torch.equal(made(adapted, ip_adapter_image=A, callback_on_step_end=same, **asked), wanted)
    unguided = made(adapted, ip_adapter_image=A, callback_on_step_end=off, **asked)
    assert not torch.equal(unguided, wanted)
    without = adapted.set_ip_adapter_scale(0.0) or made(adapted, ip_adapter_image=A, callback_on_step_end=off, **asked)
    assert (unguided - without).abs().max() > 1e-3


@pytest.mark.parametrize("variant", ["base", "plus"])
def test_a_pipeline_that_has_looked_at_a_picture_can_be_pickled(
    variant: str, pipe: StableDiffusionImg2ImgPipeline, states: tuple[Path, Any]
) -> None:
    pipe.load_ip_adapter(states[0] / "adapters", subfolder="sd", weight_name=f"{variant}.bin")
    first = made(pipe, ip_adapter_image=A)
    assert torch.equal(made(pickle.loads(pickle.dumps(pipe)), ip_adapter_image=A), first)
    assert torch.equal(made(copy.deepcopy(pipe), ip_adapter_image=A), first)
