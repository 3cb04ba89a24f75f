"""Stable Diffusion 1.x and 2.x (arXiv 2112.10752): one CLIP text encoder, and latents times one factor.

R rows of a track, N rows of the UNet's batch, B pictures, C channels, H height, W width, T tokens, S steps, E time
embedding, G guidance embedding.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ...errors import UsageError
from ...nn import AutoencoderKL, Context, Deep, FreeU, TinyAutoencoder, UNet2DCondition
from ..components import VAE, TextSide
from ..conditioning import Conditioning
from ..looks import Look
from ..randomness import Generators, normal


class StableDiffusion:
    """See `families.Family`."""

    def encode_ids(self, components: TextSide, rows: Sequence[Sequence[int]], clip_skip: int | None) -> Tensor:
        encoder = components.text_encoder
        assert encoder is not None, "callers say in their own words that there is none"
        out = encoder(torch.tensor(rows, dtype=torch.long, device=encoder.device))
        if clip_skip is None:
            return out.last_hidden_state
        layers = len(out.hidden_states) - 1
        if not 0 <= clip_skip <= layers:
            raise UsageError(f"clip_skip is {clip_skip}; this text encoder has {layers} layers to skip")
        # The final norm is for what is left, too.
        return encoder.final_norm(out.hidden_states[-(clip_skip + 1)])

    def condition(
        self, unet: UNet2DCondition, text_RTC: Tensor, guidance_scale: float, freeu: FreeU | None
    ) -> Conditioning:
        dim = unet.config.time_cond_proj_dim
        guidance_1G = guidance_embedding(torch.tensor([guidance_scale - 1]), dim) if dim else None
        guidance_G = None if guidance_1G is None else guidance_1G[0].to(text_RTC.device, text_RTC.dtype)
        return Conditioning(text_RTC, unet.context(text_RTC), guidance_G=guidance_G, freeu=freeu)

    def embed_time(self, unet: UNet2DCondition, t_S: Tensor, conditioning: Conditioning) -> Tensor:
        text_RTC, guidance_G = conditioning.text_RTC, conditioning.guidance_G
        guidance_SG = None if guidance_G is None else guidance_G.expand(len(t_S), -1)
        emb_SE = unet.embed_time(t_S, dtype=text_RTC.dtype, guidance_BG=guidance_SG)
        return emb_SE.unsqueeze(1).expand(-1, len(text_RTC), -1)

    def predict(
        self,
        unet: UNet2DCondition,
        x_NCHW: Tensor,
        emb_NE: Tensor,
        context: Context,
        freeu: FreeU | None,
        deep: Deep | None = None,
    ) -> Tensor:
        return unet.step(x_NCHW, emb_NE, context, freeu, deep)

    def encode(self, vae: VAE, image_BCHW: Tensor, generator: Generators, look: Look = AutoencoderKL.encode) -> Tensor:
        if isinstance(vae, TinyAutoencoder):
            return vae.config.scaling_factor * vae.encode(image_BCHW)
        posterior = look(vae, image_BCHW)
        noise_BCHW = normal(posterior.mean.shape, generator, posterior.mean.device, posterior.mean.dtype)
        return vae.config.scaling_factor * posterior.sample(noise_BCHW)

    def decode(self, vae: VAE, latents_BCHW: Tensor) -> Tensor:
        return vae.decode((latents_BCHW / vae.config.scaling_factor).to(vae.dtype))


SD = StableDiffusion()


def guidance_embedding(w_B: Tensor, dim: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Sinusoidal embedding (B, dim) of guidance scales, for models distilled on them (arXiv 2310.04378).

    The form is that of timesteps (arXiv 1706.03762, section 3.5) at 1000 w: sines, then cosines, zero-padded when odd.
    """
    half = dim // 2
    step = math.log(10000.0) / max(half - 1, 1)
    frequencies = torch.exp(torch.arange(half, dtype=dtype, device=w_B.device) * -step)
    angles = (w_B * 1000.0).to(dtype)[:, None] * frequencies[None, :]
    embedding = torch.cat([torch.sin(angles), torch.cos(angles)], dim=1)
    return torch.nn.functional.pad(embedding, (0, dim % 2))
