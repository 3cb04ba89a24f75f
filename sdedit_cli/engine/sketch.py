"""Sketches: what latents show, without the autoencoder, in a thousandth of its time.

A latent is nearly a linear function of the mean colour of the pixels under it, so colours are nearly one of latents:
four numbers and a one to three. Which one is found by least squares on what the autoencoder makes of a few made-up
pictures. A tiny autoencoder decodes by itself.

B pictures, C channels, H W picture, Z channels of the latents, h w latent picture, K colours.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..nn import TinyAutoencoder
from .components import VAE
from .families import Family
from .image import postprocess

Numbers = list[list[float]]
# Given a name of the autoencoder and what finds the numbers, the numbers: found, or remembered under that name.
Recall = Callable[[str, Callable[[], Numbers]], Numbers]

# The side of a made-up picture in latents, and how many patches of colour there are along it.
_SIDE, _PATCHES = 12, (2, 3, 4, 6)
# So many numbers of each tensor tell it from another.
_SAMPLE = 256


class Sketcher:
    """Pictures of scaled latents. `recall` may know the numbers of this autoencoder from another run."""

    def __init__(self, family: Family, vae: VAE) -> None:
        self.recall: Recall = lambda _name, find: find()
        self._family = family
        self._vae = vae
        self._fit_ZK: Tensor | None = None

    def glimpse(self, x_BCHW: Tensor) -> Callable[[], Image.Image]:
        """What gives the picture of these latents, once they are there: a device may have to compute them yet."""
        x_BCHW = x_BCHW.cpu()
        return lambda: self.picture(x_BCHW)

    @torch.no_grad()
    def picture(self, x_BCHW: Tensor) -> Image.Image:
        """What latents of one picture show: a pixel for each, or of a tiny autoencoder a whole picture."""
        x_BCHW = torch.nan_to_num(x_BCHW, posinf=0.0, neginf=0.0)
        vae = self._vae
        if isinstance(vae, TinyAutoencoder):
            return postprocess(torch.nan_to_num(self._family.decode(vae, x_BCHW.to(vae.device, vae.dtype))), "pil")[0]
        x_BZhw = x_BCHW.to("cpu", torch.float32)
        if self._fit_ZK is None:
            self._fit_ZK = self._fitted(x_BZhw.shape[1])
        pixels_BhwK = torch.cat([x_BZhw, torch.ones_like(x_BZhw[:, :1])], dim=1).movedim(1, -1) @ self._fit_ZK
        return postprocess(pixels_BhwK.movedim(-1, 1), "pil")[0]

    def _fitted(self, channels: int) -> Tensor:
        numbers = torch.tensor(self.recall(fingerprint(self._vae), self._fit))
        # What was remembered is the word of a file.
        return numbers if numbers.shape == (channels + 1, 3) else torch.tensor(self._fit())

    def _fit(self) -> Numbers:
        return fit(self._family, self._vae)


def fingerprint(vae: VAE) -> str:
    """A name of an autoencoder, from a sample of each of its tensors."""
    parts = [tensor.detach().flatten()[:_SAMPLE].float() for tensor in vae.state_dict().values()]
    facts = f"{vae.config.scaling_factor} {[len(part) for part in parts]}".encode()
    return hashlib.sha256(facts + torch.cat(parts).cpu().numpy().tobytes()).hexdigest()


def fit(family: Family, vae: VAE) -> Numbers:
    """The numbers [Z + 1][3] that make of scaled latents and a one the colours in -1..1 that they are decoded to."""
    image_BCHW = _made_up(_SIDE * vae.config.scale).to(vae.device, vae.dtype)
    x_BZhw = family.encode(vae, image_BCHW, torch.Generator("cpu").manual_seed(0))
    decoded_BCHW = family.decode(vae, x_BZhw)
    # In half precision some autoencoders overflow; what was encoded is not far from it.
    shown_BCHW = torch.where(torch.isfinite(decoded_BCHW), decoded_BCHW, image_BCHW).clamp(-1, 1)
    colours_BKhw = torch.nn.functional.avg_pool2d(shown_BCHW.float(), vae.config.scale)
    ones_B1hw = torch.ones_like(x_BZhw[:, :1])
    known = (torch.cat([x_BZhw, ones_B1hw], dim=1), colours_BKhw)
    x_NZ, colours_NK = (part.movedim(1, -1).flatten(0, 2).cpu().double().numpy() for part in known)
    found: Any = np.linalg.lstsq(np.nan_to_num(x_NZ), colours_NK, rcond=None)[0]
    return found.tolist()


def _made_up(side: int) -> Tensor:
    """Patches of colours, large and small, always the same: (B, 3, side, side) in -1..1."""
    generator = torch.Generator("cpu").manual_seed(0)
    colours = [torch.rand(1, 3, along, along, generator=generator) * 2 - 1 for along in _PATCHES]
    return torch.cat([torch.nn.functional.interpolate(one, (side, side)) for one in colours])
