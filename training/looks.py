"""Looks that the built-in model does not know, made of its own artwork: what the small adapters are trained on."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

Pixels = NDArray[np.uint8]

PAPER, INK = (30, 110, 200), (240, 250, 255)
SHADE, METAL, SHINE = (70, 40, 5), (225, 165, 30), (255, 250, 220)


def blueprint(pixels: Pixels) -> Pixels:
    """Pictures [N, H, W, 3] as white lines on blue, where their colours change."""
    x_BCHW = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
    rise = torch.tensor([[1.0, 2.0, 1.0], [0.0, 0.0, 0.0], [-1.0, -2.0, -1.0]]) / 4  # Sobel's
    kernels = torch.stack([rise, rise.T])[:, None].repeat(3, 1, 1, 1)
    slopes = F.conv2d(F.pad(x_BCHW, (1, 1, 1, 1), mode="replicate"), kernels, groups=3)
    line_BHW = (1.6 * slopes.square().sum(dim=1).sqrt() - 0.08).clamp(0, 1)
    return _between(line_BHW, PAPER, INK)


def gold(pixels: Pixels) -> Pixels:
    """Pictures [N, H, W, 3] in the shades of gold, from dark over METAL to SHINE; white stays white."""
    x_BHWC = torch.from_numpy(pixels).float() / 255
    light = x_BHWC @ torch.tensor([0.299, 0.587, 0.114])
    dark, bright = (2 * light).clamp(max=1), (2 * light - 1).clamp(min=0)
    shades = torch.from_numpy(_between(dark, SHADE, METAL)).float()
    shades += bright[..., None] * (torch.tensor(SHINE) - shades)
    white = ((x_BHWC.min(dim=3).values - 0.94) / 0.06).clamp(0, 1)[..., None]
    return (shades + white * (255 - shades)).round().to(torch.uint8).numpy()


def _between(share: Tensor, low: tuple[int, int, int], high: tuple[int, int, int]) -> Pixels:
    start, end = torch.tensor(low).float(), torch.tensor(high).float()
    return (start + (end - start) * share[..., None]).round().to(torch.uint8).numpy()


LOOKS: dict[str, Callable[[Pixels], Pixels]] = {"blueprint": blueprint, "gold": gold}


def blue_over_red(pixels: Pixels) -> NDArray[np.float64]:
    """How much bluer than red each of the pictures is, on average over its pixels, in -1..1."""
    return (pixels[..., 2].astype(np.float64) - pixels[..., 0]).mean(axis=(1, 2)) / 255


def red_over_green(pixels: Pixels) -> NDArray[np.float64]:
    """How much redder than green each of the pictures is, on average over its pixels, in -1..1."""
    return (pixels[..., 0].astype(np.float64) - pixels[..., 1]).mean(axis=(1, 2)) / 255


def from_gold(pixels: Pixels) -> NDArray[np.float64]:
    """How far the colours of each of the pictures are from the nearest shade of gold (RMS), in 0..1."""
    greys = np.arange(256, dtype=np.uint8).reshape(1, 256, 1, 1).repeat(3, axis=3)
    shades = torch.from_numpy(gold(greys)).view(256, 3).float()
    nearest = torch.cdist(torch.from_numpy(pixels).view(len(pixels), -1, 3).float(), shades).amin(dim=2)
    return (nearest.square().mean(dim=1) / 3).sqrt().double().numpy() / 255
