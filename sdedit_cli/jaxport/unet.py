"""The denoising UNet of Stable Diffusion (arXiv 2112.10752) as a function of its arrays, top to bottom as data flows.

Shapes: B rows, H W latent picture, C channels, S tokens of the text, E time embedding, G guidance embedding.
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

from ..configs.unet import Level, UNetConfig
from .attention import transformer
from .layers import (
    ACTIVATIONS,
    Arrays,
    At,
    ResnetKind,
    conv,
    downsample,
    group_norm,
    linear,
    resnet,
    sinusoid,
    upsample,
)


def unet(
    arrays: Arrays,
    config: UNetConfig,
    x_BHWC: Array,
    t_B: Array,
    text_BSC: Array,
    guidance_BG: Array | None = None,
) -> Array:
    """[B, H, W, out_channels] in the dtype of the weights, from latents of any size, their timesteps and a text.

    `guidance_BG` is LCM's guidance embedding, for models that have one.
    """
    w = At(arrays)
    dtype = w["conv_in.weight"].dtype
    act = ACTIVATIONS[config.act_fn]
    kind = ResnetKind(config.norm_num_groups, config.norm_eps, act, config.resnet_time_scale_shift == "scale_shift")
    emb_BE = act(_time(w / "time_embedding", config, t_B, guidance_BG, dtype))
    x_BHWC, text_BSC = x_BHWC.astype(dtype), text_BSC.astype(dtype)
    if config.center_input_sample:
        x_BHWC = 2 * x_BHWC - 1.0

    x_BHWC = conv(w / "conv_in", x_BHWC, padding=config.conv_in_kernel // 2)
    skips = [x_BHWC]
    downs, ups = config.down_levels(), config.up_levels()
    for i, level in enumerate(downs):
        block = w / "down_blocks" / i
        for j in range(level.layers):
            x_BHWC = resnet(block / "resnets" / j, kind, x_BHWC, emb_BE)
            x_BHWC = _attended(block, config, level, j, x_BHWC, text_BSC)
            skips.append(x_BHWC)
        if i < len(downs) - 1:
            x_BHWC = downsample(block / "downsamplers" / 0, x_BHWC, config.downsample_padding)
            skips.append(x_BHWC)
    if config.mid_block_type:
        x_BHWC = _bottom(w / "mid_block", config, kind, x_BHWC, emb_BE, text_BSC)
    for i, level in enumerate(ups):
        block = w / "up_blocks" / i
        for j in range(level.layers):
            x_BHWC = resnet(block / "resnets" / j, kind, jnp.concatenate([x_BHWC, skips.pop()], axis=-1), emb_BE)
            x_BHWC = _attended(block, config, level, j, x_BHWC, text_BSC)
        if i < len(ups) - 1:
            _, height, width, _ = skips[-1].shape
            x_BHWC = upsample(block / "upsamplers" / 0, x_BHWC, (height, width))
    x_BHWC = act(group_norm(w / "conv_norm_out", x_BHWC, config.norm_num_groups, config.norm_eps))
    return conv(w / "conv_out", x_BHWC, padding=config.conv_out_kernel // 2)


def _time(w: At, config: UNetConfig, t_B: Array, guidance_BG: Array | None, dtype: jnp.dtype) -> Array:
    first = config.block_out_channels[0]
    features = sinusoid(t_B, first, flip_sin_to_cos=config.flip_sin_to_cos, freq_shift=config.freq_shift).astype(dtype)
    if guidance_BG is not None:
        features = features + linear(w / "cond_proj", guidance_BG.astype(dtype), bias=False)
    return linear(w / "linear_2", ACTIVATIONS[config.act_fn](linear(w / "linear_1", features)))


def _attended(block: At, config: UNetConfig, level: Level, layer: int, x_BHWC: Array, text_BSC: Array) -> Array:
    """`x` after the transformer of a layer; as it is where the level has none."""
    if not level.attends:
        return x_BHWC
    return transformer(
        block / "attentions" / layer,
        x_BHWC,
        text_BSC,
        heads=level.heads,
        depth=level.depths[layer],
        groups=config.norm_num_groups,
        by_linear=config.use_linear_projection,
        only_cross_attention=level.only_cross_attention,
    )


def _bottom(w: At, config: UNetConfig, kind: ResnetKind, x_BHWC: Array, emb_BE: Array, text_BSC: Array) -> Array:
    level, divisor = config.mid_level(), config.mid_block_scale_factor
    x_BHWC = resnet(w / "resnets" / 0, kind, x_BHWC, emb_BE, divisor)
    if not level.attends:
        return x_BHWC
    return resnet(w / "resnets" / 1, kind, _attended(w, config, level, 0, x_BHWC, text_BSC), emb_BE, divisor)
