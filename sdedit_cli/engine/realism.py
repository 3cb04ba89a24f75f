"""How unlike a set of pictures one looks: the KID (arXiv 1801.01401) that the SDEdit paper measures realism by, in
features that every model has without a download, those of its own autoencoder's encoder.

The paper compares thousands of pictures with thousands, a feature vector each. Here a picture by itself is a set: that
of the feature vectors of its places. Channels are brought to the mean and spread that they have in the real pictures.

B pictures, C channels, H height, W width, N places of one picture, M places of the real ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..nn import AutoencoderKL
from .engine import Engine

_PLACES, _PLACES_OF_ALL = 1024, 4096
# A channel that hardly varies counts as if it varied by this part of what channels vary by.
_LEAST_SPREAD = 0.1


def distances(
    engine: Engine, made: Iterable[Image.Image], real: Sequence[Image.Image], side: int
) -> list[float | None]:
    """The KID of each picture of `made` to those of `real`, all in RGB and looked at with a longer side of at most
    `side` pixels; None where there is none: the autoencoder has no such features, or they are not finite."""
    vae = engine.components.vae
    if not isinstance(vae, AutoencoderKL):
        return [None for _ in made]
    engine.bring(vae)
    try:
        each = max(1, _PLACES_OF_ALL // len(real))
        real_MC = torch.cat([_spread_out(_features(vae, image, side), min(each, _PLACES)) for image in real])
        reference = Reference(real_MC)
        return [reference.distance(_spread_out(_features(vae, image, side), _PLACES)) for image in made]
    finally:
        engine.release()


class Reference:
    """The features of real pictures, [M, C], that others are compared with."""

    def __init__(self, real_MC: Tensor) -> None:
        self._mean_C = real_MC.mean(dim=0)
        spread_C = real_MC.std(dim=0)
        least = _LEAST_SPREAD * float(spread_C.square().mean().sqrt())
        self._spread_C = spread_C.clamp(min=least or 1.0)
        self._real_MC = self._seen(real_MC)
        self._within = _within(self._real_MC)

    def distance(self, made_NC: Tensor) -> float | None:
        """The unbiased squared MMD of both sets; at equal sets it is near 0, and may be below. None: not finite."""
        made_NC = self._seen(made_NC)
        between = float(_kernel(made_NC, self._real_MC).mean(dtype=torch.float64))
        found = _within(made_NC) + self._within - 2 * between
        return found if np.isfinite(found) else None

    def _seen(self, x_NC: Tensor) -> Tensor:
        return (x_NC - self._mean_C) / self._spread_C


def _kernel(a_NC: Tensor, b_MC: Tensor) -> Tensor:
    return (a_NC @ b_MC.T / a_NC.shape[1] + 1) ** 3


def _within(x_NC: Tensor) -> float:
    """The mean of the kernel over pairs of different places."""
    kernel_NN, count = _kernel(x_NC, x_NC), len(x_NC)
    pairs = kernel_NN.sum(dtype=torch.float64) - kernel_NN.trace().double()
    return float(pairs) / max(1, count * (count - 1))


@torch.no_grad()
def _features(vae: AutoencoderKL, image: Image.Image, side: int) -> Tensor:
    """The feature vectors of a picture's places, [N, C]; its sides are brought to multiples of the model's factor."""
    scale, part = vae.config.scale, min(1.0, side / max(image.size))
    width, height = (max(2, round(length * part / scale)) * scale for length in image.size)
    pixels_HWC = np.asarray(image.resize((width, height), Image.Resampling.LANCZOS), dtype=np.float32)
    pixels_BCHW = torch.from_numpy(pixels_HWC / 127.5 - 1).movedim(2, 0)[None].to(vae.device, vae.dtype)
    # Sums are of float64, which some devices lack.
    return vae.encoder.features(pixels_BCHW)[0].float().cpu().flatten(1).T.contiguous()


def _spread_out(x_NC: Tensor, most: int) -> Tensor:
    """At most so many of the places, equally far from each other."""
    if len(x_NC) <= most:
        return x_NC
    return x_NC[torch.linspace(0, len(x_NC) - 1, most).round().long()]
