"""Detection tells families, components and configs from names and shapes, and refuses the rest by its kind."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from helpers.names import CONFIGS, EMA_SCALARS, MODELS, SCHEDULE_BUFFERS, real_config, real_keys
from helpers.tiny.single_files import ShapeSource

from sdedit_cli.configs.unet import UNetConfig
from sdedit_cli.configs.vae import VAEConfig
from sdedit_cli.errors import ModelError, UsageError
from sdedit_cli.names import ldm
from sdedit_cli.weights import open_checkpoint
from sdedit_cli.weights.checkpoint import Checkpoint
from sdedit_cli.weights.checkpoint.families import FAMILIES
from sdedit_cli.weights.checkpoint.fitting import misfit
from sdedit_cli.weights.checkpoint.from_file import read_file

Shapes = Mapping[str, tuple[int, ...]]


def found(shapes: Shapes, metadata: Mapping[str, str] | None = None, **options: Any) -> Checkpoint:
    return read_file(ShapeSource(shapes, Path("v2-inpainting-sdxl.safetensors"), metadata), **options)


FAMILY = {"sd15": "sd1", "sd21": "sd2", "sdxl": "sdxl", "sdxl_refiner": "sdxl_refiner"}
NOT_IN_SHAPES = {"unet": {"transformer_layers_per_block"}, "vae": set[str](), "text_encoder": set[str]()}


@pytest.mark.parametrize("model", MODELS)
def test_real_models_are_known_with_every_config_and_tensor(model: str) -> None:
    """The configs inferred from shapes are the published ones, and each tensor of each component is found."""
    keys = real_keys(model)
    result = found(keys["ldm"])
    assert result.family is FAMILIES[FAMILY[model]]
    assert result.is_complete
    assert list(result.components) == list(CONFIGS[model])
    for component, part in result.components.items():
        expected = dataclasses.asdict(real_config(model, component))
        inferred = dataclasses.asdict(part.config)
        for key in NOT_IN_SHAPES.get(component, ()):  # levels without attention have no depth that could be seen
            del expected[key], inferred[key]
        assert inferred == expected
        assert set(part.tensors.origins) == set(keys[component])
        assert part.unknown == ()


def test_transformer_depths_of_the_real_models() -> None:
    for model, depths in {"sdxl": (1, 2, 10), "sdxl_refiner": (1, 4, 4, 4), "sd15": 1}.items():
        config = found(real_keys(model)["ldm"]).components["unet"].config
        assert isinstance(config, UNetConfig)
        assert config.transformer_layers_per_block == depths


@pytest.mark.parametrize(
    ("model", "component"),
    [(model, part) for model in MODELS for part in ("unet", "vae", "text_encoder") if part in CONFIGS[model]],
)
def test_single_components_in_our_layout_are_known(model: str, component: str) -> None:
    result = found(real_keys(model)[component])
    assert list(result.components) == [component]
    assert not result.is_complete
    assert set(result.components[component].tensors.origins) == set(real_keys(model)[component])
    if component == "unet":
        assert result.family.name == FAMILY[model]
        assert result.components["unet"].config.block_out_channels == real_config(model, "unet").block_out_channels


@pytest.mark.parametrize("prefix", [ldm.UNET, ""])
def test_a_unet_alone_is_known_with_and_without_its_prefix(prefix: str) -> None:
    keys = real_keys("sd15")["ldm"]
    unet = {prefix + name.removeprefix(ldm.UNET): s for name, s in keys.items() if name.startswith(ldm.UNET)}
    result = found(unet)
    assert result.title() == "Stable Diffusion 1.x, UNet only"
    assert len(result.components["unet"].tensors.origins) == 686


def test_a_vae_alone_is_known_and_its_training_losses_are_dropped() -> None:
    keys = real_keys("sd15")["ldm"]
    vae: dict[str, tuple[int, ...]] = {n.removeprefix(ldm.VAE): s for n, s in keys.items() if n.startswith(ldm.VAE)}
    result = found({**vae, "loss.logvar": ()})
    assert result.title() == "VAE only"
    assert result.dropped == ("loss.logvar",)


def test_leftovers_of_training_are_dropped_and_the_ema_copy_is_an_offer() -> None:
    keys = dict(real_keys("sd15")["ldm"])
    plain = found(keys)
    assert not plain.has_ema
    assert set(plain.dropped) >= {*SCHEDULE_BUFFERS, *EMA_SCALARS}
    ema = {ldm.ema_name(name): shape for name, shape in keys.items() if name.startswith(ldm.UNET)}
    both = found({**keys, **ema}, ema=True)
    assert both.has_ema
    assert both.components["unet"].tensors.origins["conv_in.weight"].sources == (
        "model_ema.diffusion_modelinput_blocks00weight",
    )
    assert {source for o in both.components["unet"].tensors.origins.values() for source in o.sources} == set(ema)
    with pytest.raises(ModelError, match="no EMA copy"):
        found(keys, ema=True)


@pytest.mark.parametrize("model", MODELS)
def test_an_ema_copy_that_is_the_only_unet_is_the_unet(model: str) -> None:
    """Its names lost their dots: they are found again, for each tensor of every real model."""
    keys = real_keys(model)["ldm"]
    averaged = {ldm.ema_name(name) if name.startswith(ldm.UNET) else name: shape for name, shape in keys.items()}
    assert not any(name.startswith(ldm.UNET) for name in averaged)
    plain, result = found(keys), found(averaged)
    assert result.has_ema
    assert result.uses_ema
    assert "UNet from the EMA copy" in result.title()
    assert result.components["unet"].config == plain.components["unet"].config
    assert {n for o in result.components["unet"].tensors.origins.values() for n in o.sources} <= averaged.keys()
    assert result.components["unet"].tensors.origins.keys() == plain.components["unet"].tensors.origins.keys()
    assert result.dropped == plain.dropped


def test_an_ema_copy_that_is_incomplete_is_refused_with_the_way_out() -> None:
    keys = dict(real_keys("sd15")["ldm"])
    ema = {ldm.ema_name(name): shape for name, shape in keys.items() if name.startswith(ldm.UNET)}
    del ema["model_ema.diffusion_modeltime_embed0bias"]
    with pytest.raises(ModelError, match=r"diffusion_modeltime_embed0bias.*--no-ema"):
        found({**keys, **ema}, ema=True)


WRAPPERS = [
    *("module.", "_orig_mod.", "_orig_mod.module.", "module._orig_mod."),
    *("state_dict.", "state_dict.module."),
]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_wrappers_of_training_are_seen_through(model: str, wrapper: str) -> None:
    keys = real_keys(model)
    for layout in keys:
        plain, result = found(keys[layout]), found({wrapper + name: shape for name, shape in keys[layout].items()})
        assert result.title() == plain.title()
        assert result.family is plain.family
        for name, part in plain.components.items():
            assert result.components[name].config == part.config
            assert result.components[name].unknown == ()
            assert result.components[name].tensors.origins.keys() == part.tensors.origins.keys()


@pytest.mark.parametrize("prefix", ["model.", "module.model.", "vae.", "module."])
def test_a_vae_alone_under_the_name_that_its_training_gave_it(prefix: str) -> None:
    keys = real_keys("sd15")
    for vae in (keys["vae"], {n.removeprefix(ldm.VAE): s for n, s in keys["ldm"].items() if n.startswith(ldm.VAE)}):
        result = found({**{prefix + name: shape for name, shape in vae.items()}, "loss.logvar": ()})
        assert result.title() == "VAE only"
        assert len(result.components["vae"].tensors.origins) == 248
        assert result.dropped == ("loss.logvar",)


def test_a_text_encoder_as_transformers_names_it_beside_the_other_components() -> None:
    keys = real_keys("sd15")
    names = {f"unet.{n}": s for n, s in keys["unet"].items()} | {f"vae.{n}": s for n, s in keys["vae"].items()}
    names |= {f"text_encoder.{n.removeprefix('text_model.')}": s for n, s in keys["text_encoder"].items()}
    result = found(names)
    assert result.is_complete
    assert result.dropped == ()
    assert result.components["text_encoder"].tensors.origins.keys() == keys["text_encoder"].keys()


@pytest.mark.parametrize(
    ("channels", "task"), [(9, "inpainting"), (8, "instruct-pix2pix"), (5, "depth to image"), (7, "upscaling")]
)
def test_models_of_other_tasks_are_named(channels: int, task: str) -> None:
    keys = {**real_keys("sd15")["ldm"], ldm.UNET + "input_blocks.0.0.weight": (320, channels, 3, 3)}
    assert found(keys).task == task


def test_old_checkpoints_without_text_model_in_their_names() -> None:
    keys = {name.replace("transformer.text_model.", "transformer."): s for name, s in real_keys("sd15")["ldm"].items()}
    result = found(keys)
    assert set(result.components["text_encoder"].tensors.origins) == set(real_keys("sd15")["text_encoder"])


def test_a_tensor_that_fits_nowhere_in_a_component_is_reported() -> None:
    result = found({**real_keys("sd15")["ldm"], ldm.UNET + "input_blocks.1.0.surprise": (3,)})
    assert result.components["unet"].unknown == (ldm.UNET + "input_blocks.1.0.surprise",)


PREDICTIONS: list[tuple[dict[str, str], dict[str, Any], str, str]] = [
    ({}, {}, "v_prediction", "assumed"),
    ({"modelspec.prediction_type": "epsilon"}, {}, "epsilon", "modelspec.prediction_type"),
    ({"modelspec.prediction_type": "v"}, {}, "v_prediction", "modelspec.prediction_type"),
    ({"sdedit.prediction_type": "epsilon", "modelspec.prediction_type": "v"}, {}, "epsilon", "sdedit.prediction_type"),
    ({"modelspec.architecture": "stable-diffusion-v2-512"}, {}, "epsilon", "modelspec.architecture"),
    ({"modelspec.prediction_type": "v"}, {"prediction_type": "epsilon"}, "epsilon", "as asked"),
]


@pytest.mark.parametrize(("metadata", "options", "expected", "said_by"), PREDICTIONS)
def test_what_a_2x_model_predicts_and_who_says_so(
    metadata: dict[str, str], options: dict[str, Any], expected: str, said_by: str
) -> None:
    model = found(real_keys("sd21")["ldm"], metadata, **options)
    assert model.scheduler is not None
    assert model.prediction.kind == model.scheduler["prediction_type"] == expected
    assert said_by in model.prediction.said_by


YAMLS = [
    ('model:\n  target: ldm\n  params:\n    parameterization: "v"  # 768\n', "v_prediction"),
    ("model:\n  params:\n    parameterization: eps\n", "epsilon"),
    ("model:\n  target: ldm.LatentDiffusion\n  params:\n    timesteps: 1000\n", "epsilon"),
    ('# parameterization: "v"\nmodel:\n  params:\n', "epsilon"),
    ('model:\n  params:\n    "parameterization": "v"\n', "v_prediction"),
    ("model:\r\n  params:\r\n    'parameterization' : 'v'\r\n", "v_prediction"),
    ('model: {target: ldm.x, params: {parameterization: "eps"}}\n', "epsilon"),
    ('{"model": {"params": {"parameterization": "v"}}}', "v_prediction"),
    ("\ufeffmodel:\n  params: &p {parameterization: v}\n  again: *p\n", "v_prediction"),
    ("model: &m\n  params:\n    self: *m\n    parameterization: v\n", "v_prediction"),
]
NO_YAMLS = [
    "",
    "hello",
    "model: {",
    "a: 1",
    "\x00",
    "- [" * 3000,
    "model:\n  params:\n    parameterization: other\n",
    "model:\n  params:\n    parameterization: [v]\n",
    "model:\n  params: {parameterization: v}\n" + "#" * (1 << 17),
    "a: &a [x, x]\n"
    + "".join(f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join(['*' + chr(97 + i)] * 99)}]\n" for i in range(9)),
]


@pytest.mark.parametrize(("text", "expected"), YAMLS)
def test_a_yaml_beside_the_file_says_what_it_predicts(text: str, expected: str, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.with_suffix(".yaml").write_text(text, encoding="utf-8", newline="")
    prediction = read_file(ShapeSource(real_keys("sd21")["ldm"], path)).prediction
    assert (prediction.kind, prediction.said_by) == (expected, str(path.with_suffix(".yaml")))


@pytest.mark.parametrize("text", NO_YAMLS)
def test_a_yaml_that_says_nothing_is_passed_over(text: str, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.with_suffix(".yaml").write_text(text)
    assert "assumed" in read_file(ShapeSource(real_keys("sd21")["ldm"], path)).prediction.said_by


def test_an_unknown_prediction_type_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"'epsilom'.*did you mean 'epsilon'"):
        found(real_keys("sd21")["ldm"], prediction_type="epsilom")


REFUSED = {
    "lora_unet_down_blocks_0_attentions_0_proj_in.lora_down.weight": "looks like a LoRA",
    "string_to_param.*": "textual inversion",
    "emp_params": "textual inversion embedding, .*; give it to --embedding",
    "clip_l": "textual inversion",
    "<a-word>": "textual inversion embedding, .*; give it to --embedding",
    "weight": "no Stable Diffusion checkpoint",
    "prompt_embeds": "a file of encoded prompts, .*; give it to --prompt-embeds",
    "diffusion_model.input_blocks.1.1.proj_in.diff": "an adapter of whole differences, .*; give it to --lora",
    "diffusion_model.input_blocks.1.1.proj_in.diff_b": "an adapter of whole differences, .*; give it to --lora",
    "unet.different.diffuser": "no Stable Diffusion checkpoint",
    "lora_unet_down_blocks_0_attentions_0_proj_in.oft_blocks": "looks like a LoRA",
    "lycoris_down_blocks_0_attentions_0_proj_in.oft_blocks": "a LyCORIS adapter",
    "ip_adapter.0.to_q_lora.down.weight": "an IP-Adapter, .*; give it to --ip-adapter",
    "ip_adapter.1.to_k_ip_lora.lora_down.weight": "an IP-Adapter, .*; give it to --ip-adapter",
    "model.diffusion_model.double_blocks.0.img_attn.qkv.weight": "FLUX",
    "model.diffusion_model.joint_blocks.0.x_block.mlp.fc1.weight": "Stable Diffusion 3",
    "control_model.time_embed.0.weight": "ControlNet",
    "some.other.network": "no Stable Diffusion checkpoint",
}


@pytest.mark.parametrize(("name", "word"), REFUSED.items())
def test_other_files_are_refused_with_what_they_look_like(name: str, word: str) -> None:
    with pytest.raises(ModelError, match=word):
        found({name: (4, 4)})


def test_what_comfyui_writes_tells_the_prediction() -> None:
    for model, key, wanted in (("sd21", "epsilon", "epsilon"), ("sd15", "v", "v_prediction")):
        prediction = found(real_keys(model)["ldm"], {"modelspec.predict_key": key}).prediction
        assert (prediction.kind, prediction.guessed) == (wanted, False)


def test_2x_in_the_names_of_xls_code_is_2x_and_its_refiner_stays_what_it_is() -> None:
    shapes = {
        name.replace(ldm.OPENCLIP, ldm.REFINER_OPENCLIP, 1) if name.startswith(ldm.OPENCLIP) else name: shape
        for name, shape in real_keys("sd21")["ldm"].items()
    }
    assert any(name.startswith(ldm.REFINER_OPENCLIP) for name in shapes)
    result, usual = found(shapes), found(real_keys("sd21")["ldm"])
    assert result.family is FAMILIES["sd2"]
    assert {slot: part.config for slot, part in result.components.items()} == {
        slot: part.config for slot, part in usual.components.items()
    }
    assert found(real_keys("sdxl_refiner")["ldm"]).family is FAMILIES["sdxl_refiner"]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("joint_blocks.0.x_block.attn.qkv.weight", "a Stable Diffusion 3 model"),
        ("double_blocks.0.img_attn.qkv.weight", "a FLUX model"),
        ("blocks.0.self_attn.q.weight", "is no Stable Diffusion checkpoint that is known here"),
    ],
)
def test_a_network_of_another_kind_beside_a_vae_is_not_passed_over(name: str, kind: str) -> None:
    vae = {key: shape for key, shape in real_keys("sd15")["ldm"].items() if key.startswith(ldm.VAE)}
    assert found(vae).title() == "VAE only"
    with pytest.raises(ModelError, match=kind):
        found({**vae, ldm.UNET + name: (8, 8)})
    assert list(found({**vae, ldm.UNET + name: (8, 8)}, skip=("unet",)).components) == ["vae"]


def test_a_folder_with_a_transformer_is_named(tmp_path: Path) -> None:
    (tmp_path / "transformer").mkdir()
    index = {"_class_name": "StableDiffusion3Pipeline", "transformer": ["diffusers", "SD3Transformer2DModel"]}
    (tmp_path / "model_index.json").write_text(json.dumps(index | {"vae": ["diffusers", "AutoencoderKL"]}))
    with pytest.raises(ModelError, match="is a model of StableDiffusion3Pipeline, with a transformer in place of"):
        open_checkpoint(tmp_path)
    # Its autoencoder may be taken, and a folder of that name beside a UNet says nothing.
    open_checkpoint(tmp_path, skip=("unet", "vae"))
    unet = ["diffusers", "UNet2DConditionModel"]
    (tmp_path / "model_index.json").write_text(json.dumps(index | {"unet": unet}))
    open_checkpoint(tmp_path)


def test_parts_that_are_not_of_one_model_are_told_with_their_numbers() -> None:
    configs = {slot: part.config for slot, part in found(real_keys("sd15")["ldm"]).components.items()}
    assert misfit(configs) == ""
    wide = real_config("sd21", "text_encoder")
    assert misfit({**configs, "text_encoder": wide}) == "its text encoder is 1024 wide, and its UNet reads texts of 768"
    unet, vae = configs["unet"], configs["vae"]
    assert isinstance(unet, UNetConfig)
    assert isinstance(vae, VAEConfig)
    other = dataclasses.replace(unet, out_channels=5)
    assert misfit({**configs, "unet": other}) == "its UNet predicts 5 channels, and the latents of its VAE have 4"
    gray = dataclasses.replace(vae, in_channels=1)
    assert misfit({"vae": gray}) == "its VAE is for pictures of 1 channels, expected 3"
