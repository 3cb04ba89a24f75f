"""The colours of an edit brought back to those of its input, against the drift of passing through the autoencoder again
and again.

All of it is in linear light and in floats, so that nothing is rounded before the picture is: no bands, no gaps.
Channels are taken as sRGB has them. Shapes: B batch, C channels, H and W pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

Numbers = np.ndarray[Any, Any]
# What counts as low: a Gaussian of this share of the shorter side, found on a picture of this side at most.
_WIDTH, _SIDE = 1 / 16, 128
# By how much a place may be made lighter or darker, and the light that counts as none.
_MOST_GAIN, _DARK = 4.0, 1e-3
# Both change what they were found from, also where it is cut off at black and white: they are found step by step.
_GAINS, _OFFSETS = 3, 80
# Of a small picture less is cut off than of the whole one, by which the last are found, in longer steps: what is left
# over adds up from edit to edit.
_LAST_OFFSETS, _STEP = 20, 1.5


def recoloured(way: str, x_HWC: Numbers, input_HWC: Numbers, device: torch.device) -> Numbers:
    """A picture in 0..1 with colours of the input, in its size, by way of 'keep' or 'match' (see there), in float32;
    `device` is where that is computed."""
    light, wanted = (linear(_tensor(one, device)) for one in (x_HWC, input_HWC))
    made = encoded(_WAYS[way](light, wanted).clamp(0, 1))
    return np.ascontiguousarray(made[0].movedim(0, -1).cpu().numpy())


def _tensor(x_HWC: Numbers, device: torch.device) -> Tensor:
    return torch.from_numpy(x_HWC.astype(np.float32)).to(device).movedim(-1, 0)[None].clamp(0, 1)


def keep(light_BCHW: Tensor, wanted_BCHW: Tensor) -> Tensor:
    """The low frequencies of the input: by a gain of each channel that changes slowly over the picture, and for what no
    gain can do (a channel without any light) by an offset that does."""
    small_BCHW, wanted_BCHW = _small(light_BCHW), low(_small(wanted_BCHW))
    gain_BCHW, offset_BCHW = torch.ones_like(small_BCHW), torch.zeros_like(small_BCHW)
    for _ in range(_GAINS):
        now_BCHW = low((small_BCHW * gain_BCHW).clamp(0, 1)) + _DARK
        gain_BCHW = (gain_BCHW * (wanted_BCHW + _DARK) / now_BCHW).clamp(1 / _MOST_GAIN, _MOST_GAIN)
    for _ in range(_OFFSETS):
        offset_BCHW = offset_BCHW + wanted_BCHW - low((small_BCHW * gain_BCHW + offset_BCHW).clamp(0, 1))
    whole_BCHW = light_BCHW * _large(gain_BCHW, light_BCHW)
    for _ in range(_LAST_OFFSETS):
        now_BCHW = low(_small((whole_BCHW + _large(offset_BCHW, light_BCHW)).clamp(0, 1)))
        offset_BCHW = offset_BCHW + _STEP * (wanted_BCHW - now_BCHW)
    return whole_BCHW + _large(offset_BCHW, light_BCHW)


def match(light_BCHW: Tensor, wanted_BCHW: Tensor) -> Tensor:
    """Mean and covariance of the input's colours: the linear map between two normal distributions that moves colours
    least (Pitié and Kokaram, 2007)."""
    mine, theirs = (one.double().flatten(2) for one in (light_BCHW, wanted_BCHW))
    means = [one.mean(2, keepdim=True) for one in (mine, theirs)]
    ours, wanted = (
        (one - mean) @ (one - mean).mT / one.shape[2] for one, mean in zip((mine, theirs), means, strict=True)
    )
    floor = _DARK**2 * torch.eye(3, dtype=ours.dtype, device=ours.device)
    half = _power(ours + floor, 0.5)
    back = _power(ours + floor, -0.5)
    moved = back @ _power(half @ (wanted + floor) @ half, 0.5) @ back
    return (moved @ (mine - means[0]) + means[1]).view_as(light_BCHW).to(light_BCHW.dtype)


_WAYS: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {"keep": keep, "match": match}


def _small(light_BCHW: Tensor) -> Tensor:
    """The picture at a size at which its low frequencies are found."""
    height, width = light_BCHW.shape[2:]
    share = _SIDE / max(height, width)
    if share >= 1:
        return light_BCHW
    return F.interpolate(light_BCHW, (max(1, round(height * share)), max(1, round(width * share))), mode="area")


def _large(small_BCHW: Tensor, like_BCHW: Tensor) -> Tensor:
    """What was found on a small picture, in the size of another."""
    return F.interpolate(small_BCHW, like_BCHW.shape[2:], mode="bilinear", align_corners=False)


def low(light_BCHW: Tensor) -> Tensor:
    """The low frequencies of a small picture; what is beyond its border does not count."""
    sigma = max(1.0, min(light_BCHW.shape[2:]) * _WIDTH)
    return _blurred(light_BCHW, sigma) / _blurred(torch.ones_like(light_BCHW[:1, :1]), sigma)


def _blurred(x_BCHW: Tensor, sigma: float) -> Tensor:
    reach = round(3 * sigma)
    at = torch.arange(-reach, reach + 1, dtype=x_BCHW.dtype, device=x_BCHW.device)
    kernel = torch.exp(-0.5 * (at / sigma) ** 2)
    kernel = kernel / kernel.sum()
    rows = x_BCHW.flatten(0, 1).unsqueeze(1)
    rows = F.conv2d(rows, kernel.view(1, 1, -1, 1), padding=(reach, 0))
    return F.conv2d(rows, kernel.view(1, 1, 1, -1), padding=(0, reach)).view_as(x_BCHW)


def _power(matrix_BCC: Tensor, exponent: float) -> Tensor:
    """A power of a symmetric matrix with positive eigenvalues."""
    values, vectors = cast("tuple[Tensor, Tensor]", torch.linalg.eigh(matrix_BCC))
    return (vectors * values.clamp(min=_DARK**4).pow(exponent).unsqueeze(-2)) @ vectors.mT


def linear(x: Tensor) -> Tensor:
    """sRGB in 0..1 as linear light in 0..1 (IEC 61966-2-1)."""
    return torch.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)


def encoded(light: Tensor) -> Tensor:
    """Linear light in 0..1 as sRGB in 0..1."""
    return torch.where(light <= 0.0031308, light * 12.92, 1.055 * light.clamp(min=1e-9) ** (1 / 2.4) - 0.055)
