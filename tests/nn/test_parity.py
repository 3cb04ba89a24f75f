"""The networks give the oracle's numbers for the same weights: every family, every option of the configs.

Where the arithmetic is the same in the same order, equal means equal to the bit; elsewhere within 1e-5.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from helpers.tiny.configs import FAMILIES, POOLED_WIDTH, TEXT_WIDTH
from helpers.tiny.networks import oracle_of, tiny_clip, tiny_taesd, tiny_unet, tiny_vae

from sdedit_cli.nn import FreeU, UNet2DCondition

# The oracle warns about its own attribute access and casts.
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")


@pytest.fixture(autouse=True)
def _no_gradients():
    with torch.no_grad():
        yield


def unet_inputs(config: Any, size: tuple[int, int], rows: int = 2) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(7)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    inputs: dict[str, Any] = {
        "x": draw(rows, config.in_channels, *size),
        "t": torch.tensor([981, 1, 333.3][:rows]),
        "text": draw(rows, 7, TEXT_WIDTH),
        "guidance": draw(rows, config.time_cond_proj_dim) if config.time_cond_proj_dim else None,
        "added": None,
    }
    if config.addition_embed_type == "text_time":
        inputs["added"] = {"text_embeds": draw(rows, POOLED_WIDTH), "time_ids": torch.randint(0, 999, (rows, 6))}
    return inputs


def ours_of(model: UNet2DCondition, inputs: dict[str, Any], freeu: FreeU | None = None) -> torch.Tensor:
    emb = model.embed_time(inputs["t"], guidance_BG=inputs["guidance"], added=inputs["added"])
    return model(inputs["x"], emb, model.context(inputs["text"]), freeu)


def theirs_of(oracle: Any, inputs: dict[str, Any]) -> torch.Tensor:
    return oracle(
        inputs["x"],
        inputs["t"],
        inputs["text"],
        timestep_cond=inputs["guidance"],
        added_cond_kwargs=inputs["added"],
    ).sample


@pytest.mark.parametrize("size", [(8, 8), (9, 7), (5, 12), (1, 3)])
@pytest.mark.parametrize("family", FAMILIES)
def test_unet_families_are_bit_equal_at_even_and_odd_sizes(family: str, size: tuple[int, int]) -> None:
    model = tiny_unet(family)
    inputs = unet_inputs(model.config, size)
    assert torch.equal(ours_of(model, inputs), theirs_of(oracle_of(model), inputs))


THREE_LEVELS = {
    "block_out_channels": [16, 32, 48],
    "down_block_types": ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"],
}
UNET_OPTIONS: dict[str, dict[str, Any]] = {
    "one level": {
        "block_out_channels": [32],
        "down_block_types": ["CrossAttnDownBlock2D"],
        "up_block_types": ["CrossAttnUpBlock2D"],
    },
    "three levels": THREE_LEVELS,
    "layers per level": {**THREE_LEVELS, "layers_per_block": [1, 2, 3]},
    "depth per level": {**THREE_LEVELS, "transformer_layers_per_block": [1, 3, 2]},
    "depth on the way up": {
        **THREE_LEVELS,
        "transformer_layers_per_block": [[1, 2], [2, 1], 1],
        "reverse_transformer_layers_per_block": [1, [1, 2, 1], [2, 1, 1]],
    },
    "heads per level": {**THREE_LEVELS, "attention_head_dim": [1, 4, 6]},
    "one text width a level": {**THREE_LEVELS, "cross_attention_dim": [TEXT_WIDTH] * 3},
    "only cross attention": {"only_cross_attention": True},
    "only cross attention in a level": {**THREE_LEVELS, "only_cross_attention": [True, False, False]},
    "linear projection": {"use_linear_projection": True},
    "upcast attention": {"upcast_attention": True},
    "scale and shift": {"resnet_time_scale_shift": "scale_shift"},
    "centered input": {"center_input_sample": True},
    "sine first": {"flip_sin_to_cos": False},
    "frequency shift": {"freq_shift": 1},
    "padding of the encoder": {"downsample_padding": 0},
    "groups and eps": {"norm_num_groups": 4, "norm_eps": 1e-3},
    "mish": {"act_fn": "mish"},
    "gelu": {"act_fn": "gelu"},
    "relu": {"act_fn": "relu"},
    "swish": {"act_fn": "swish"},
    "conv kernels": {"conv_in_kernel": 5, "conv_out_kernel": 1},
    "bottom without attention": {"mid_block_type": "UNetMidBlock2D"},
    "no bottom": {"mid_block_type": None},
    "bottom divided": {"mid_block_scale_factor": 1.4},
    "no attention at all": {
        "down_block_types": ["DownBlock2D"] * 2,
        "up_block_types": ["UpBlock2D"] * 2,
        "mid_block_type": "UNetMidBlock2D",
    },
    "inpainting channels": {"in_channels": 9},
    "more latent channels": {"in_channels": 16, "out_channels": 16},
    "time width": {"time_embedding_dim": 40},
    "guidance embedding": {"time_cond_proj_dim": 12},
}


@pytest.mark.parametrize("name", UNET_OPTIONS)
def test_unet_options_are_bit_equal(name: str) -> None:
    model = tiny_unet("sd15", **UNET_OPTIONS[name])
    inputs = unet_inputs(model.config, (9, 10))
    assert torch.equal(ours_of(model, inputs), theirs_of(oracle_of(model), inputs))


LOOSE_FLAGS = ("center_input_sample", "flip_sin_to_cos", "upcast_attention", "use_linear_projection")
REFUSED_FLAGS = ("class_embeddings_concat", "dual_cross_attention", "resnet_skip_time_act")
NULL_OPTIONS = ("attention_type", "resnet_out_scale_factor", "addition_embed_type_num_heads")
LOOSE_UNETS: dict[str, dict[str, Any]] = {
    "flags that are null": dict.fromkeys((*LOOSE_FLAGS, *REFUSED_FLAGS)),
    "flags that are 0": dict.fromkeys((*LOOSE_FLAGS, *REFUSED_FLAGS), 0),
    "flags that are 1": dict.fromkeys(LOOSE_FLAGS, 1),
    "options that are null": dict.fromkeys(NULL_OPTIONS),
}


@pytest.mark.parametrize("name", LOOSE_UNETS)
def test_nulls_and_numbers_in_a_unet_s_config_mean_what_the_oracle_makes_of_them(name: str) -> None:
    """Its own conversion script writes `"upcast_attention": null`."""
    model = tiny_unet("sd15", **LOOSE_UNETS[name])
    inputs = unet_inputs(model.config, (8, 8))
    assert torch.equal(ours_of(model, inputs), theirs_of(oracle_of(model, **LOOSE_UNETS[name]), inputs))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("size", [(8, 8), (7, 10)])
def test_freeu_equals_the_oracle_s_and_leaves_no_trace(family: str, size: tuple[int, int]) -> None:
    model = tiny_unet(family, **(THREE_LEVELS if family == "sd15" else {}))
    inputs, oracle = unet_inputs(model.config, size), oracle_of(model)
    plain = ours_of(model, inputs)
    oracle.enable_freeu(s1=0.9, s2=0.2, b1=1.2, b2=1.4)
    freed = ours_of(model, inputs, FreeU(s1=0.9, s2=0.2, b1=1.2, b2=1.4))
    torch.testing.assert_close(freed, theirs_of(oracle, inputs), rtol=0, atol=1e-5)
    assert not torch.equal(freed, plain)
    assert torch.equal(ours_of(model, inputs), plain)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("family", FAMILIES)
def test_unet_runs_in_half_precision_as_the_oracle_does(family: str, dtype: torch.dtype) -> None:
    model = tiny_unet(family).to(dtype)
    inputs = unet_inputs(model.config, (8, 8))
    inputs["x"], inputs["text"] = inputs["x"].to(dtype), inputs["text"].to(dtype)
    if inputs["guidance"] is not None:
        inputs["guidance"] = inputs["guidance"].to(dtype)
    if inputs["added"] is not None:
        inputs["added"]["text_embeds"] = inputs["added"]["text_embeds"].to(dtype)
    ours = ours_of(model, inputs)
    assert ours.dtype is dtype
    assert torch.equal(ours, theirs_of(oracle_of(model), inputs))


def test_time_embeddings_of_all_steps_at_once_equal_those_of_one_step() -> None:
    model = tiny_unet()
    steps = torch.tensor([981, 500, 3])
    together = model.embed_time(steps)
    for i in range(3):
        torch.testing.assert_close(together[i : i + 1], model.embed_time(steps[i : i + 1]), rtol=0, atol=1e-6)


VAE_OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "no attention": {"mid_block_add_attention": False},
    "no quant conv": {"use_quant_conv": False, "use_post_quant_conv": False},
    "sixteen channels": {"latent_channels": 16},
    "four levels": {
        "block_out_channels": [8, 16, 16, 24],
        "down_block_types": ["DownEncoderBlock2D"] * 4,
        "up_block_types": ["UpDecoderBlock2D"] * 4,
        "layers_per_block": 2,
    },
    "one level": {
        "block_out_channels": [16],
        "down_block_types": ["DownEncoderBlock2D"],
        "up_block_types": ["UpDecoderBlock2D"],
    },
    "mish": {"act_fn": "mish"},
    "grey": {"in_channels": 1, "out_channels": 2},
}


@pytest.mark.parametrize("name", VAE_OPTIONS)
def test_autoencoder_is_bit_equal(name: str) -> None:
    model = tiny_vae(**VAE_OPTIONS[name])
    oracle, x = oracle_of(model), torch.randn(2, model.config.in_channels, 24, 40)
    ours, theirs = model.encode(x), oracle.encode(x).latent_dist
    assert torch.equal(ours.mean, theirs.mean)
    assert torch.equal(ours.mode, theirs.mode())
    assert torch.equal(ours.logvar, theirs.logvar)
    assert torch.equal(ours.std, theirs.std)
    noise = torch.randn(ours.mean.shape, generator=torch.Generator().manual_seed(3))
    assert torch.equal(ours.sample(noise), theirs.sample(torch.Generator().manual_seed(3)))
    assert torch.equal(model.decode(ours.mean), oracle.decode(theirs.mean).sample)


@pytest.mark.parametrize("value", [None, 0, 1])
def test_nulls_and_numbers_as_an_autoencoder_s_flags_mean_what_the_oracle_makes_of_them(value: int | None) -> None:
    flags = ("force_upcast", "use_quant_conv", "use_post_quant_conv", "mid_block_add_attention")
    said = dict.fromkeys(flags, value)
    model = tiny_vae(**said)
    oracle, x = oracle_of(model, **said), torch.randn(1, 3, 16, 16)
    assert torch.equal(model.decode(model.encode(x).mean), oracle.decode(oracle.encode(x).latent_dist.mean).sample)
    assert model.config.force_upcast is bool(value)


TAESD_OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "sixteen channels": {"latent_channels": 16},
    "bilinear, gelu": {"upsample_fn": "bilinear", "act_fn": "gelu"},
    "magnitude": {"latent_magnitude": 2},
}


@pytest.mark.parametrize("name", TAESD_OPTIONS)
def test_tiny_autoencoder_is_bit_equal(name: str) -> None:
    model = tiny_taesd(**TAESD_OPTIONS[name])
    oracle, x = oracle_of(model), torch.randn(2, 3, 32, 48)
    latents = model.encode(x)
    assert latents.shape == (2, model.config.latent_channels, 4, 6)
    assert torch.equal(latents, oracle.encode(x).latents)
    assert torch.equal(model.decode(latents * 5), oracle.decode(latents * 5).sample)


CLIP_OPTIONS: dict[str, dict[str, Any]] = {
    "SD 1.x": {},
    "SD 2.x": {"hidden_act": "gelu", "num_hidden_layers": 2, "hidden_size": 48, "num_attention_heads": 3},
    "tanh gelu": {"hidden_act": "gelu_pytorch_tanh"},
    "legacy end token": {"eos_token_id": 2, "pad_token_id": 1, "bos_token_id": 0},
    "one layer, loose norm": {"num_hidden_layers": 1, "layer_norm_eps": 1e-3},
}


@pytest.mark.parametrize("name", CLIP_OPTIONS)
def test_text_encoder_equals_in_every_hidden_state_and_in_the_pooled_one(name: str) -> None:
    model = tiny_clip(**CLIP_OPTIONS[name])
    oracle = oracle_of(model)
    ids = torch.randint(3, 49000, (3, 77), generator=torch.Generator().manual_seed(1))
    ids[:, 0], ids[0, 9:], ids[1, 40:], ids[2, 76] = 49406, 49407, 49407, 49407
    ours, theirs = model(ids), oracle(ids, output_hidden_states=True)
    assert len(ours.hidden_states) == model.config.num_hidden_layers + 1
    for mine, other in zip(ours.hidden_states, theirs.hidden_states, strict=True):
        torch.testing.assert_close(mine, other, rtol=0, atol=1e-5)
    torch.testing.assert_close(ours.last_hidden_state, theirs.last_hidden_state, rtol=0, atol=1e-5)
    torch.testing.assert_close(ours.pooled, theirs.pooler_output, rtol=0, atol=1e-5)
    assert torch.equal(model.final_norm(ours.hidden_states[-1]), ours.last_hidden_state)


def test_text_encoder_names_too_many_tokens() -> None:
    with pytest.raises(ValueError, match="78 tokens for a text encoder of 77 positions"):
        tiny_clip()(torch.zeros(1, 78, dtype=torch.long))
