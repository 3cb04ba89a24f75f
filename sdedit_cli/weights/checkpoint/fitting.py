"""Whether components are made for each other, as their configs say: what one puts out, the next one takes."""

from __future__ import annotations

from collections.abc import Mapping

from ...configs.clip import CLIPTextConfig
from ...configs.unet import UNetConfig
from ...configs.vae import TinyVAEConfig, VAEConfig
from .components import Config
from .layouts import Slot

COLOURS = 3


def predicts(unet: UNetConfig, latents: int) -> bool:
    """Whether a UNet is for latents of so many channels. Those with a learned variance put it out beside the noise."""
    return unet.out_channels in (latents, 2 * latents)


def misfit(configs: Mapping[Slot, Config]) -> str:
    """What speaks against components at work together, for an error; '' when nothing does."""
    unet, vae, text = (configs.get(slot) for slot in ("unet", "vae", "text_encoder"))
    if isinstance(vae, VAEConfig) and {vae.in_channels, vae.out_channels} != {COLOURS}:
        channels = vae.in_channels if vae.in_channels != COLOURS else vae.out_channels
        return f"its VAE is for pictures of {channels} channels, expected {COLOURS}"
    if not isinstance(unet, UNetConfig):
        return ""
    if isinstance(vae, VAEConfig | TinyVAEConfig) and not predicts(unet, latents := vae.latent_channels):
        return f"its UNet predicts {unet.out_channels} channels, and the latents of its VAE have {latents}"
    width = unet.cross_attention_dim
    if isinstance(text, CLIPTextConfig) and isinstance(width, int) and text.hidden_size != width:
        return f"its text encoder is {text.hidden_size} wide, and its UNet reads texts of {width}"
    return ""
