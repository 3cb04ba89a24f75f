"""Configs that cannot be built are refused by file, key and value before anything is allocated."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from helpers.ends import reached, reaches
from helpers.tiny.configs import clip_config, taesd_config, unet_config, vae_config
from hypothesis import given
from hypothesis import strategies as st

from sdedit_cli.configs.check import MOST_BLOCKS
from sdedit_cli.configs.clip import CLIPTextConfig
from sdedit_cli.configs.unet import UNetConfig
from sdedit_cli.configs.vae import TinyVAEConfig, VAEConfig
from sdedit_cli.errors import ModelError
from sdedit_cli.nn import AutoencoderKL, CLIPTextModel, TinyAutoencoder, UNet2DCondition

UNET_REFUSALS: list[tuple[str, Any]] = [
    ("down_block_types", ["AttnDownBlock2D", "DownBlock2D"]),
    ("down_block_types", ["DownBlock2D"]),
    ("up_block_types", ["UpBlock2D", "SimpleCrossAttnUpBlock2D"]),
    ("mid_block_type", "UNetMidBlock2DSimpleCrossAttn"),
    ("act_fn", "sillu"),
    ("resnet_time_scale_shift", "spatial"),
    ("addition_embed_type", "image"),
    ("class_embed_type", "timestep"),
    ("num_class_embeds", 1000),
    ("dual_cross_attention", True),
    ("encoder_hid_dim_type", "text_proj"),
    ("time_embedding_type", "fourier"),
    ("attention_type", "gated"),
    ("block_out_channels", []),
    ("block_out_channels", [32] * 17),
    ("block_out_channels", [32, -64]),
    ("block_out_channels", [32, 60]),
    ("block_out_channels", [32, 1 << 40]),
    ("norm_num_groups", 0),
    ("norm_num_groups", 24),
    ("attention_head_dim", 7),
    ("attention_head_dim", [8]),
    ("attention_head_dim", 0),
    ("layers_per_block", 0),
    ("layers_per_block", [1, 2, 3]),
    ("layers_per_block", "two"),
    ("transformer_layers_per_block", 10**9),
    ("transformer_layers_per_block", [[1], [1]]),
    ("cross_attention_dim", None),
    ("in_channels", 0),
    ("in_channels", "4"),
    ("conv_in_kernel", 2),
    ("downsample_padding", 7),
    ("dropout", 1.5),
    ("norm_eps", 0),
    ("mid_block_scale_factor", 0),
    ("freq_shift", 16),
]
VAE_REFUSALS: list[tuple[str, Any]] = [
    ("down_block_types", ["DownEncoderBlock2D", "AttnDownEncoderBlock2D"]),
    ("up_block_types", ["UpDecoderBlock2D"]),
    ("block_out_channels", [16, 30]),
    ("block_out_channels", [16] * 9),
    ("block_out_channels", []),
    ("norm_num_groups", -8),
    ("latent_channels", 0),
    ("layers_per_block", -1),
    ("act_fn", "tanh"),
    ("scaling_factor", 0),
    ("scaling_factor", "big"),
    ("latents_mean", [0.0]),
    ("sample_size", 0),
    ("sample_size", []),
]
TAESD_REFUSALS: list[tuple[str, Any]] = [
    ("num_encoder_blocks", [1]),
    ("num_decoder_blocks", [1, 1, -1, 1]),
    ("encoder_block_out_channels", [8, 8, 8, 16]),
    ("encoder_block_out_channels", []),
    ("decoder_block_out_channels", [8] * 9),
    ("act_fn", "tanh"),
    ("upsample_fn", "sinc"),
    ("latent_channels", 0),
]
CLIP_REFUSALS: list[tuple[str, Any]] = [
    ("hidden_act", "quick_gellu"),
    ("num_attention_heads", 5),
    ("num_attention_heads", 0),
    ("hidden_size", -32),
    ("num_hidden_layers", 10**6),
    ("vocab_size", 0),
    ("max_position_embeddings", 0),
    ("max_position_embeddings", 4097),
    ("eos_token_id", 10**30),
]


def levels_of(down: str, up: str, levels: int) -> dict[str, Any]:
    """The keys of a network of many levels, each of as many layers as there may be."""
    return {
        "block_out_channels": [32] * levels,
        "down_block_types": [down] * levels,
        "up_block_types": [up] * levels,
        "layers_per_block": 256,
    }


CASES = [
    *((UNetConfig, unet_config(), *refusal) for refusal in UNET_REFUSALS),
    *((VAEConfig, vae_config(), *refusal) for refusal in VAE_REFUSALS),
    *((TinyVAEConfig, taesd_config(), *refusal) for refusal in TAESD_REFUSALS),
    *((CLIPTextConfig, clip_config(), *refusal) for refusal in CLIP_REFUSALS),
]


@pytest.mark.parametrize(("config", "data", "key", "value"), CASES)
def test_values_that_cannot_be_built_name_file_key_and_value(
    config: Any, data: dict[str, Any], key: str, value: Any
) -> None:
    with pytest.raises(ModelError) as caught:
        config.from_dict({**data, key: value}, "some/folder/config.json")
    message = str(caught.value)
    assert message.startswith("some/folder/config.json: ")
    assert f"'{key}'" in message
    assert "expected" in message
    assert len(message.splitlines()) == 1


DEEP = {"layers_per_block": 256, "transformer_layers_per_block": 256}
TOO_MANY_BLOCKS: dict[str, tuple[Any, dict[str, Any], dict[str, Any], str]] = {
    "deep transformers": (UNetConfig, unet_config(), DEEP, "transformer_layers_per_block"),
    "many resnets": (UNetConfig, unet_config(), levels_of("DownBlock2D", "UpBlock2D", 16), "layers_per_block"),
    "a VAE": (VAEConfig, vae_config(), levels_of("DownEncoderBlock2D", "UpDecoderBlock2D", 8), "layers_per_block"),
}


@pytest.mark.parametrize("case", TOO_MANY_BLOCKS)
def test_a_network_of_too_many_blocks_is_refused_before_it_is_built(case: str) -> None:
    config, data, change, key = TOO_MANY_BLOCKS[case]
    with pytest.raises(ModelError, match=f"^f: '{key}' is .*, expected a network of at most 2048 blocks"):
        config.from_dict(data | change, "f")


def test_the_largest_real_network_is_far_from_the_limit() -> None:
    attends = ["CrossAttnUpBlock2D"] * 2
    sdxl = {
        "block_out_channels": [320, 640, 1280],
        "down_block_types": ["DownBlock2D", *["CrossAttnDownBlock2D"] * 2],
        "up_block_types": [*attends, "UpBlock2D"],
        "layers_per_block": 2,
        "transformer_layers_per_block": [1, 2, 10],
        "attention_head_dim": [5, 10, 20],
    }
    config = UNetConfig.from_dict(unet_config("sdxl") | sdxl)
    levels = (*config.down_levels(), *config.up_levels(), config.mid_level())
    assert 10 * sum(level.blocks for level in levels) < MOST_BLOCKS


def test_a_missing_sdxl_size_is_named() -> None:
    data = unet_config("sdxl", projection_class_embeddings_input_dim=None)
    with pytest.raises(ModelError, match="projection_class_embeddings_input_dim"):
        UNetConfig.from_dict(data)


def test_heads_come_from_the_misnamed_key_unless_the_right_one_is_given() -> None:
    misnamed = UNetConfig.from_dict(unet_config(attention_head_dim=8))
    named = UNetConfig.from_dict(unet_config(attention_head_dim=64, num_attention_heads=8))
    assert [level.heads for level in misnamed.down_levels()] == [8, 8]
    assert misnamed.down_levels() == named.down_levels()


def test_keys_of_other_versions_are_ignored() -> None:
    data = unet_config(_diffusers_version="0.0.1", a_note="hello")
    assert UNetConfig.from_dict(data) == UNetConfig.from_dict(unet_config())


def test_the_text_half_of_a_whole_clip_config_is_read() -> None:
    whole = {"model_type": "clip", "text_config": clip_config(), "projection_dim": 5}
    assert CLIPTextConfig.from_dict(whole) == CLIPTextConfig.from_dict(clip_config())


def test_a_text_encoder_s_projection_may_be_null_as_nothing_is_made_of_it() -> None:
    said, silent = (CLIPTextConfig.from_dict(clip_config(projection_dim=width)) for width in (None, 512))
    assert said.to_dict()["projection_dim"] is None
    assert CLIPTextModel(said).state_dict().keys() == CLIPTextModel(silent).state_dict().keys()


@pytest.mark.parametrize("value", [2, -1, 0.5, "false", []])
def test_other_values_than_null_and_0_and_1_are_no_flags(value: object) -> None:
    with pytest.raises(ModelError, match=r"^f: 'upcast_attention' is .*, expected bool$"):
        UNetConfig.from_dict(unet_config(upcast_attention=value), "f")


NETWORKS = [
    (UNet2DCondition, UNetConfig, unet_config()),
    (AutoencoderKL, VAEConfig, vae_config()),
    (TinyAutoencoder, TinyVAEConfig, taesd_config()),
    (CLIPTextModel, CLIPTextConfig, clip_config()),
]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 70) | st.floats(-2, 2) | st.sampled_from(["silu", "", "DownBlock2D"]),
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=6,
)


def near(value: Any) -> st.SearchStrategy[Any]:
    """Values of the same type that may well be taken."""
    match value:
        case bool():
            return st.booleans()
        case int():
            return st.sampled_from([value, 2 * value, 4 * value])
        case tuple():
            return st.sampled_from([list(value), list(value) * 2, list(reversed(value))])
        case _:
            return st.just(value)


@pytest.mark.parametrize(("network", "config", "data"), NETWORKS)
@reaches(built=5, refused=10)
@given(draw=st.data())
def test_any_value_of_any_key_is_built_or_refused(network: Any, config: Any, data: dict[str, Any], draw: Any) -> None:
    key = draw.draw(st.sampled_from(sorted(config.__dataclass_fields__)))
    changed = {**data, key: draw.draw(JSON | near(getattr(config.from_dict(data), key)))}
    try:
        read = config.from_dict(changed)
    except ModelError:
        reached("refused")
        return
    with torch.device("meta"):
        network(read)
    reached("built")
