"""Pictures into the latents that tracks start from.

B pictures, C channels, H height, W width.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..errors import UsageError, warn
from ..nn import AutoencoderKL
from .components import VAE
from .families import Family
from .looks import Look
from .randomness import Generators, check_count


def image_latents(
    family: Family,
    vae: VAE,
    image_BCHW: Tensor,
    rows: int | None,
    generator: Generators,
    dtype: torch.dtype,
    look: Look = AutoencoderKL.encode,
) -> Tensor:
    """Scaled latents of `rows` pictures: a batch is repeated as a whole until it has that many (None: it is not).

    Latents go through as they are. The posterior is sampled, from the same generator that the noise will use. The
    autoencoder may compute in another precision than `dtype`, that of the latents.
    Raises UsageError when `rows` is no multiple of the batch.
    """
    if rows is None:
        return family.encode(vae, image_BCHW.to(vae.device, vae.dtype), generator, look).to(dtype)
    check_count(generator, rows)
    count = len(image_BCHW)
    if rows % count:
        raise UsageError(f"image: {count} pictures for {rows} outputs; give one picture, or one for each prompt")
    if image_BCHW.shape[1] == vae.config.latent_channels != vae.config.in_channels:
        return repeat_batch(image_BCHW.to(vae.device, dtype), rows)
    image_BCHW = image_BCHW.to(vae.device, vae.dtype)
    if generator is not None and not isinstance(generator, torch.Generator):
        image_BCHW = repeat_batch(image_BCHW, rows)
        rows_1CHW = [family.encode(vae, image_BCHW[b : b + 1], one) for b, one in enumerate(generator)]
        return torch.cat(rows_1CHW).to(dtype)
    if 1 < count < rows:
        warn(f"image: {count} pictures are repeated to make {rows}")
    return repeat_batch(family.encode(vae, image_BCHW, generator).to(dtype), rows)


def repeat_batch(x_BCHW: Tensor, rows: int) -> Tensor:
    """In the layout of the pictures, as kernels follow it, and roundings with them."""
    return torch.cat([x_BCHW] * math.ceil(rows / len(x_BCHW)))[:rows]
