"""Pictures into noised latents, and latents back into pictures.

B pictures, C channels, H height, W width.
"""

from __future__ import annotations

import math
import warnings

import torch
from torch import Tensor

from ..errors import UsageError
from ..nn import AutoencoderKL, TinyAutoencoder
from .randomness import Generators, check_count, normal

VAE = AutoencoderKL | TinyAutoencoder


def image_latents(vae: VAE, image_BCHW: Tensor, rows: int, generator: Generators, dtype: torch.dtype) -> Tensor:
    """Scaled latents of `rows` pictures: a batch is repeated as a whole until it has that many.

    Latents go through as they are. The posterior is sampled, from the same generator that the noise will use.
    Raises UsageError when `rows` is no multiple of the batch.
    """
    if not isinstance(generator, torch.Generator):
        check_count(generator, rows)
    count = len(image_BCHW)
    if rows % count:
        raise UsageError(f"image: {count} pictures for {rows} outputs; give one picture, or one for each prompt")
    image_BCHW = image_BCHW.to(device=vae.device, dtype=dtype)
    is_latent = image_BCHW.shape[1] == vae.config.latent_channels != vae.config.in_channels
    if is_latent:
        return repeat_batch(image_BCHW, rows)
    if generator is not None and not isinstance(generator, torch.Generator):
        image_BCHW = repeat_batch(image_BCHW, rows)
        return torch.cat([encode(vae, image_BCHW[b : b + 1], one) for b, one in enumerate(generator)])
    if count < rows:
        _warn_repeat(count, rows)
    return repeat_batch(encode(vae, image_BCHW, generator), rows)


def _warn_repeat(count: int, rows: int) -> None:
    if count > 1:
        warnings.warn(f"image: {count} pictures are repeated to make {rows}", UserWarning, stacklevel=4)


def encode(vae: VAE, image_BCHW: Tensor, generator: Generators) -> Tensor:
    """Latents of pictures in -1..1, times the scaling factor (arXiv 2112.10752, section D.1)."""
    if isinstance(vae, TinyAutoencoder):
        return vae.config.scaling_factor * vae.encode(image_BCHW)
    posterior = vae.encode(image_BCHW)
    noise_BCHW = normal(posterior.mean.shape, generator, posterior.mean.device, posterior.mean.dtype)
    return vae.config.scaling_factor * posterior.sample(noise_BCHW)


def decode(vae: VAE, latents_BCHW: Tensor) -> Tensor:
    """Pictures in about -1..1."""
    return vae.decode(latents_BCHW / vae.config.scaling_factor)


def repeat_batch(x_BCHW: Tensor, rows: int) -> Tensor:
    return x_BCHW.repeat(math.ceil(rows / len(x_BCHW)), 1, 1, 1)[:rows]
