"""What is compiled: texts, pictures and a plan in, pictures out. Pure functions, one program for each shape of inputs.

Shapes: B pictures, R rows of the UNet (twice the pictures, the negative ones first, where it is guided), T tokens, H W
picture, h w latent picture, Z channels of the latents, C channels of the text, P steps with padding.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import jax
import jax.numpy as jnp
from jax import Array, lax

from ..configs.clip import CLIPTextConfig
from ..configs.unet import UNetConfig
from ..configs.vae import VAEConfig
from . import vae
from .clip import encode_text
from .layers import Arrays
from .plan import Plan
from .unet import unet

Params = Mapping[str, Arrays]
"""The arrays of each component, by its folder."""


@dataclass(frozen=True)
class Configs:
    """The networks of a program."""

    unet: UNetConfig
    vae: VAEConfig
    text_encoder: CLIPTextConfig

    def guides(self, scale: float) -> bool:
        """Whether a step of this scale has to read the negative prompt: at 1 it has no weight, and some models read the
        scale instead."""
        return scale != 1.0 and self.unet.time_cond_proj_dim is None


def encoded(configs: Configs, arrays: Arrays, image_BCHW: Array, draw_BhwZ: Array) -> Array:
    """Scaled latents of pictures in -1..1, `draw` away from the mean of their distribution: [B, h, w, Z]."""
    mean, std = vae.encode(arrays, configs.vae, image_BCHW.transpose(0, 2, 3, 1))
    return configs.vae.scaling_factor * (mean + std * draw_BhwZ)


def decoded(configs: Configs, arrays: Arrays, x_BhwZ: Array) -> Array:
    """The pictures of scaled latents, nominally in -1..1: [B, H, W, 3]."""
    return vae.decode(arrays, configs.vae, x_BhwZ / configs.vae.scaling_factor)


@dataclass(frozen=True)
class Steering:
    """What a step reads besides the latents; `guidance` has one number, or one a picture."""

    configs: Configs
    unet: Arrays
    text_RTC: Array
    guidance: Array
    guided: bool


def predicted(by: Steering, x_BhwZ: Array, t: Array) -> Array:
    """What the model says of latents at a time, guided (arXiv 2207.12598), in float32: [B, h, w, Z]."""
    rows = jnp.concatenate([x_BhwZ, x_BhwZ]) if by.guided else x_BhwZ
    dim, scale = by.configs.unet.time_cond_proj_dim, by.guidance.reshape(-1)
    embedded = None if dim is None else guidance_embedding(jnp.broadcast_to(scale, (len(rows),)), dim)
    out = unet(by.unet, by.configs.unet, rows, jnp.broadcast_to(t, (len(rows),)), by.text_RTC, embedded)
    out = out.astype(jnp.float32)
    if not by.guided:
        return out
    negative, positive = jnp.split(out, 2)
    return negative + scale[:, None, None, None] * (positive - negative)


def guidance_embedding(scale_B: Array, dim: int) -> Array:
    """Of models that were distilled on the scale (arXiv 2310.04378): sines and cosines at 1000 (w - 1), [B, dim]."""
    half = dim // 2
    frequencies = jnp.exp(jnp.arange(half, dtype=jnp.float32) * -(math.log(10000.0) / max(half - 1, 1)))
    angles = (scale_B - 1)[:, None] * 1000.0 * frequencies[None, :]
    return jnp.pad(jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=1), ((0, 0), (0, dim % 2)))


def node(plan: Plan, k: Array, x0: Array, outputs: Array, draws: Array | None) -> Array:
    """The latents before step `k`, from what the model said in the steps before: see `plan`."""
    # Solvers weigh against each other what nearly cancels: half precision would be seen.
    exact = lax.Precision.HIGHEST
    x = plan.start[k] * x0 + jnp.tensordot(plan.outputs[k], outputs, 1, precision=exact)
    if plan.draws is None or draws is None:
        return x
    return x + jnp.tensordot(plan.draws[k], draws, 1, precision=exact)


def stepped(by: Steering, plan: Plan, k: Array, x0: Array, outputs: Array, draws: Array | None) -> Array:
    """`outputs` with what the model says in step `k`."""
    x = node(plan, k, x0, outputs, draws)
    return outputs.at[k].set(predicted(by, plan.scales[k] * x, plan.times[k]))


def walked(by: Steering, plan: Plan, x0: Array, key: Array) -> Array:
    """The latents after all steps of a plan; the noise of step k comes from the fold of `key` with k."""
    room = jnp.zeros((len(plan.times), *x0.shape))

    def step(k: Array, carry: tuple[Array, Array | None]) -> tuple[Array, Array | None]:
        outputs, draws = carry
        if draws is not None:
            draws = draws.at[k].set(jax.random.normal(jax.random.fold_in(key, k), x0.shape))
        return stepped(by, plan, k, x0, outputs, draws), draws

    empty: tuple[Array, Array | None] = (room, None if plan.draws is None else room)
    outputs, draws = cast("tuple[Array, Array | None]", lax.fori_loop(0, plan.steps, step, empty))
    return node(plan, plan.steps, x0, outputs, draws)


def edited(
    configs: Configs,
    guided: bool,
    params: Params,
    ids_BT: Array,
    negative_BT: Array,
    image_BCHW: Array,
    key: Array,
    noise_BZhw: Array | None,
    guidance: Array,
    plan: Plan,
) -> Array:
    """The edited pictures in 0..1, [B, H, W, 3].

    As in the original, `key` is for the draw of the picture's latents, and where no noise is given for that too.
    """
    text = params["text_encoder"]
    rows = jnp.concatenate([negative_BT, ids_BT]) if guided else ids_BT
    text_RTC = encode_text(text, configs.text_encoder, rows)
    scale, (pictures, _, height, width) = configs.vae.scale, image_BCHW.shape
    shape = (pictures, height // scale, width // scale, configs.vae.latent_channels)
    x_BhwZ = encoded(configs, params["vae"], image_BCHW, jax.random.normal(key, shape))
    if noise_BZhw is None:
        noise_BZhw = jax.random.normal(key, (pictures, shape[3], *shape[1:3]))
    x_BhwZ = plan.image * x_BhwZ + plan.noise * noise_BZhw.transpose(0, 2, 3, 1)
    by = Steering(configs, params["unet"], text_RTC, guidance, guided)
    pixels = decoded(configs, params["vae"], walked(by, plan, x_BhwZ, key))
    return jnp.clip(pixels / 2 + 0.5, 0.0, 1.0)
