"""The networks: UNet, autoencoders, CLIP text encoder. Each is imported with torch when it is first asked for."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .clip import CLIPTextModel, CLIPTextOutput
    from .context import Context, ImageSource
    from .freeu import FreeU
    from .ops import Ops
    from .tiny_vae import TinyAutoencoder
    from .unet import UNet2DCondition
    from .vae import AutoencoderKL, Gaussian

_HOMES = {
    "AutoencoderKL": "vae",
    "CLIPTextModel": "clip",
    "CLIPTextOutput": "clip",
    "Context": "context",
    "FreeU": "freeu",
    "Gaussian": "vae",
    "ImageSource": "context",
    "Ops": "ops",
    "TinyAutoencoder": "tiny_vae",
    "UNet2DCondition": "unet",
}

__all__ = [
    "AutoencoderKL",
    "CLIPTextModel",
    "CLIPTextOutput",
    "Context",
    "FreeU",
    "Gaussian",
    "ImageSource",
    "Ops",
    "TinyAutoencoder",
    "UNet2DCondition",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)
