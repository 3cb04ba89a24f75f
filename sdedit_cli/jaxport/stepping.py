"""Edits step by step, for who wants to look on: the same arithmetic as `program.edited`, in programs of their own.

Shapes: B pictures, R rows of the UNet, T tokens, H W picture, h w latent picture, Z channels of the latents.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from .clip import encode_text
from .compiling import compiled
from .layers import Arrays
from .plan import Plan
from .program import Configs, Params, Steering, decoded, encoded, node, stepped

Numbers = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Draws:
    """Normal numbers from the caller's generator, each [B, Z, h, w]: for the latents of the picture, for its noise, and
    one for every step (of a sampler that draws none, an empty list)."""

    latents: Numbers
    noise: Numbers
    steps: list[Numbers]


@dataclass(frozen=True)
class Model:
    """Loaded networks at work."""

    configs: Configs
    params: Params

    def text(self, ids_BT: Numbers, clip_skip: int | None) -> Numbers:
        """Embeddings [B, T, C] in float32."""
        run = _text(self.configs, clip_skip)
        embeds_BTC: Any = np.array(run(self.params["text_encoder"], jnp.asarray(ids_BT)), dtype=np.float32)
        return embeds_BTC

    def walk(
        self, plan: Plan, image_BCHW: Numbers, draws: Draws, text_RTC: Numbers, scale: float, guided: bool
    ) -> Iterator[Array]:
        """The latents [B, h, w, Z] after each step."""
        x_BhwZ: Array = _encoded(self.configs)(self.params["vae"], image_BCHW, _last(draws.latents))
        x_BhwZ = plan.image * x_BhwZ + plan.noise * _last(draws.noise)
        room = (len(plan.times), *x_BhwZ.shape)
        outputs, noise = jnp.zeros(room), None
        if plan.draws is not None:
            # A step that draws none has a weight of 0 for what stands in its place.
            drawn = np.zeros(room, np.float32)
            drawn[: len(draws.steps)] = np.stack([_last(one) for one in draws.steps])
            noise = jnp.asarray(drawn)
        step, guidance = _step(self.configs, guided), np.array([scale], np.float32)
        for k in range(int(plan.steps)):
            outputs = step(self.params["unet"], text_RTC, guidance, plan, np.int32(k), x_BhwZ, outputs, noise)
            yield _node()(plan, np.int32(k + 1), x_BhwZ, outputs, noise)

    def decode(self, x_BhwZ: Array) -> Numbers:
        """Pictures [B, 3, H, W], nominally in -1..1."""
        pixels_BHWC: Array = _decoded(self.configs)(self.params["vae"], x_BhwZ)
        return np.asarray(pixels_BHWC.transpose(0, 3, 1, 2))


def _last(x_BZhw: Numbers) -> Numbers:
    return np.moveaxis(x_BZhw, 1, 3)


@cache
def _text(configs: Configs, clip_skip: int | None) -> Any:
    def encode(arrays: Arrays, ids_BT: Array) -> Array:
        return encode_text(arrays, configs.text_encoder, ids_BT, clip_skip)

    return compiled(encode)


@cache
def _encoded(configs: Configs) -> Any:
    return compiled(partial(encoded, configs))


@cache
def _decoded(configs: Configs) -> Any:
    return compiled(partial(decoded, configs))


@cache
def _node() -> Any:
    return compiled(node)


@cache
def _step(configs: Configs, guided: bool) -> Any:
    def step(
        unet: Arrays,
        text_RTC: Array,
        guidance: Array,
        plan: Plan,
        k: Array,
        x0: Array,
        outputs: Array,
        noise: Array | None,
    ) -> Array:
        by = Steering(configs, unet, text_RTC, guidance, guided)
        return stepped(by, plan, k, x0, outputs, noise)

    return compiled(step, donate_argnames=("outputs",))
