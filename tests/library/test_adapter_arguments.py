"""What methods about adapters are given: scripts of the reference go on, and what means nothing is told in words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.pipelines import picture

from sdedit_cli import StableDiffusionImg2ImgPipeline
from sdedit_cli.errors import ModelError, UsageError, WrongTypeError

KEY = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
LAYER = KEY.removeprefix("unet.")
STATE = {f"{KEY}.lora_A.weight": torch.ones(2, 32) / 9, f"{KEY}.lora_B.weight": torch.ones(32, 2) / 9}


@pytest.fixture
def pipe(pipe: StableDiffusionImg2ImgPipeline) -> StableDiffusionImg2ImgPipeline:
    for name in "ab":
        pipe.load_lora_weights(STATE, adapter_name=name)
    return pipe


@pytest.mark.parametrize("scale", [float("nan"), float("inf"), "x", [0.5], True])
def test_a_scale_that_is_no_finite_number_fuses_nothing(pipe: Any, scale: Any) -> None:
    with pytest.raises((UsageError, WrongTypeError), match="lora_scale is"):
        pipe.fuse_lora(lora_scale=scale)
    assert not pipe.num_fused_loras


def test_older_scripts_leave_a_component_out(pipe: Any) -> None:
    pipe.unload_lora_weights()
    base = pipe.unet.get_submodule(LAYER).weight.clone()
    pipe.load_lora_weights(STATE)
    pipe.fuse_lora(fuse_unet=False)
    pipe.unload_lora_weights()
    assert pipe.unet.get_submodule(LAYER).weight.equal(base)
    pipe.load_lora_weights(STATE)
    pipe.fuse_lora(fuse_text_encoder=False, lora_scale=None)
    pipe.unload_lora_weights()
    fused = pipe.unet.get_submodule(LAYER).weight.clone()
    assert not fused.equal(base)
    pipe.unfuse_lora(unfuse_unet=False)
    assert pipe.unet.get_submodule(LAYER).weight.equal(fused)
    pipe.unfuse_lora()
    assert pipe.unet.get_submodule(LAYER).weight.equal(base)


@pytest.mark.parametrize("components", [None, 3, "unet", ["vae"], [["unet"]], []])
def test_components_that_are_none_are_told(pipe: Any, components: Any) -> None:
    for method in (pipe.fuse_lora, pipe.unfuse_lora):
        with pytest.raises((UsageError, WrongTypeError), match="components is"):
            method(components=components)


def test_weights_may_come_as_arrays_and_names_come_once(pipe: Any) -> None:
    pipe.set_adapters(["a", "b"], [0.5, -0.25])
    wanted = pipe.unet.get_submodule(LAYER).weight.clone()
    for weights in (np.array([0.5, -0.25]), torch.tensor([0.5, -0.25])):
        pipe.set_adapters(["a", "b"])
        pipe.set_adapters(["a", "b"], weights)
        assert pipe.unet.get_submodule(LAYER).weight.equal(wanted)
    with pytest.raises(UsageError, match="twice"):
        pipe.set_adapters(["a", "a"], [1.0, 0.5])


def test_what_a_call_was_given_is_read_by_callbacks(pipe: Any) -> None:
    told: list[Any] = []

    def callback(of: Any, step: int, *_: Any) -> dict[str, Any]:
        told.append((of.clip_skip, of.cross_attention_kwargs, of.lora_scale))
        return {}

    options = {"clip_skip": 1, "cross_attention_kwargs": {"scale": 0.5}, "num_inference_steps": 2, "strength": 0.5}
    pipe("a cat", picture(), callback_on_step_end=callback, output_type="latent", **options)
    assert told == [(1, {"scale": 0.5}, 0.5)]


def test_a_state_dict_comes_with_as_many_values_as_are_asked_for(folder: Path, tmp_path: Path) -> None:
    save = StableDiffusionImg2ImgPipeline.save_lora_weights
    metadata = {"r": 2, "lora_alpha": 4, "target_modules": {"to_q", "to_k"}}
    state = {key.removeprefix("unet."): tensor for key, tensor in STATE.items()}
    save(tmp_path, unet_lora_layers=state, unet_lora_adapter_metadata=metadata)
    pipe = StableDiffusionImg2ImgPipeline.from_pretrained(folder)
    options = {"unet_config": pipe.unet.config, "return_lora_metadata": True}
    found, *others = StableDiffusionImg2ImgPipeline.lora_state_dict(tmp_path, **options)
    assert others == [None, None]
    before = pipe.unet.get_submodule(LAYER).weight.clone()
    pipe.load_lora_weights(found, metadata=None)
    change = 2 * STATE[f"{KEY}.lora_B.weight"] @ STATE[f"{KEY}.lora_A.weight"]
    torch.testing.assert_close(pipe.unet.get_submodule(LAYER).weight, before + change)


@pytest.mark.parametrize("name", ["../evil.safetensors", "/evil.safetensors", "x.bin"])
def test_files_are_written_into_the_folder_alone(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="weight_name is"):
        StableDiffusionImg2ImgPipeline.save_lora_weights(tmp_path / "to", STATE, weight_name=name)
    assert not list(tmp_path.iterdir())


def test_what_is_no_layer_no_name_and_no_metadata_is_told(pipe: Any, tmp_path: Path) -> None:
    save = StableDiffusionImg2ImgPipeline.save_lora_weights
    layers: Any = {"a": 3}
    with pytest.raises(WrongTypeError, match="a int as 'a'"):
        save(tmp_path / "to", layers)
    other: Any = [1]
    with pytest.raises(WrongTypeError, match="the layers are a list"):
        save(tmp_path / "to", other)
    name: Any = 3
    with pytest.raises(WrongTypeError, match="weight_name is 3"):
        save(tmp_path / "to", STATE, weight_name=name)
    with pytest.raises(WrongTypeError, match="metadata cannot be written"):
        save(tmp_path / "to", STATE, unet_lora_adapter_metadata={"r": object()})
    with pytest.raises(WrongTypeError, match="adapter_name is 3"):
        pipe.load_lora_weights(STATE, adapter_name=3)
    with pytest.raises(WrongTypeError, match="has 3 as a name"):
        pipe.load_lora_weights({3: torch.ones(2)})
    with pytest.raises(WrongTypeError, match="meta device"):
        pipe.load_lora_weights({key: tensor.to("meta") for key, tensor in STATE.items()})
    with pytest.raises(WrongTypeError, match="token is 3"):
        pipe.load_textual_inversion({"<a>": torch.ones(32)}, token=3)
    with pytest.raises(ModelError, match="no factors"):
        pipe.load_lora_weights({f"{KEY}.alpha": torch.tensor(2.0)})
    assert sorted(pipe.get_list_adapters()["unet"]) == ["a", "b"]
    assert not list(tmp_path.iterdir())
