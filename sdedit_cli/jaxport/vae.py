"""The autoencoder between pictures and latents (AutoencoderKL of arXiv 2112.10752) as functions of its arrays.

Shapes: B rows, H W picture, h w latent picture, C channels, Z channels of the latents.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array

from ..configs.vae import VAEConfig
from .attention import picture_attention
from .layers import ACTIVATIONS, Arrays, At, ResnetKind, conv, downsample, group_norm, resnet, upsample

EPS = 1e-6


def encode(arrays: Arrays, config: VAEConfig, x_BHWC: Array) -> tuple[Array, Array]:
    """Mean and standard deviation of the latents of pictures in -1..1, unscaled: each [B, h, w, Z] in float32."""
    w, kind = At(arrays), _kind(config)
    encoder, levels = w / "encoder", len(config.block_out_channels)
    x_BHWC = conv(encoder / "conv_in", x_BHWC.astype(w["encoder.conv_in.weight"].dtype), padding=1)
    for i in range(levels):
        block = encoder / "down_blocks" / i
        for j in range(config.layers_per_block):
            x_BHWC = resnet(block / "resnets" / j, kind, x_BHWC)
        if i < levels - 1:
            x_BHWC = downsample(block / "downsamplers" / 0, x_BHWC, padding=0)
    x_BHWC = _ended(encoder, config, kind, _bottom(encoder / "mid_block", config, kind, x_BHWC))
    if config.use_quant_conv:
        x_BHWC = conv(w / "quant_conv", x_BHWC)
    mean, logvar = jnp.split(x_BHWC.astype(jnp.float32), 2, axis=-1)
    return mean, jnp.exp(0.5 * jnp.clip(logvar, -30.0, 20.0))


def decode(arrays: Arrays, config: VAEConfig, z_BhwZ: Array) -> Array:
    """The pictures of unscaled latents, nominally in -1..1: [B, H, W, C] in float32."""
    w, kind = At(arrays), _kind(config)
    decoder, levels = w / "decoder", len(config.block_out_channels)
    x_BHWC = z_BhwZ.astype(w["decoder.conv_in.weight"].dtype)
    if config.use_post_quant_conv:
        x_BHWC = conv(w / "post_quant_conv", x_BHWC)
    x_BHWC = _bottom(decoder / "mid_block", config, kind, conv(decoder / "conv_in", x_BHWC, padding=1))
    for i in range(levels):
        block = decoder / "up_blocks" / i
        for j in range(config.layers_per_block + 1):
            x_BHWC = resnet(block / "resnets" / j, kind, x_BHWC)
        if i < levels - 1:
            x_BHWC = upsample(block / "upsamplers" / 0, x_BHWC)
    return _ended(decoder, config, kind, x_BHWC).astype(jnp.float32)


def _kind(config: VAEConfig) -> ResnetKind:
    return ResnetKind(config.norm_num_groups, EPS, ACTIVATIONS[config.act_fn])


def _bottom(w: At, config: VAEConfig, kind: ResnetKind, x_BHWC: Array) -> Array:
    x_BHWC = resnet(w / "resnets" / 0, kind, x_BHWC)
    if config.mid_block_add_attention:
        x_BHWC = picture_attention(w / "attentions" / 0, x_BHWC, kind.groups, EPS)
    return resnet(w / "resnets" / 1, kind, x_BHWC)


def _ended(w: At, config: VAEConfig, kind: ResnetKind, x_BHWC: Array) -> Array:
    x_BHWC = jax.nn.silu(group_norm(w / "conv_norm_out", x_BHWC, kind.groups, EPS))
    return conv(w / "conv_out", x_BHWC, padding=1)
