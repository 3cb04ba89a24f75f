"""TAESD, the tiny autoencoder: plain convolutions, a few milliseconds instead of a second.

Shapes: B rows, C channels, H W picture, Z channels of the latents, h w latent picture.
"""

from __future__ import annotations

from fractions import Fraction

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..configs.vae import TinyVAEConfig
from .base import Conv2d, Model
from .tiling import InPieces, Pieces, painted

SOFT_CLAMP = 3
"""Latents rarely leave -3..3. `latent_magnitude` is another thing: the range of latents stored as bytes."""

TILE = 512
"""The side of a tile in pixels."""

MODULES: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "silu": nn.SiLU,
    "swish": nn.SiLU,
    "mish": nn.Mish,
    "gelu": nn.GELU,
}


class TinyBlock(nn.Module):
    """Three convolutions and a residual."""

    def __init__(self, width: int, act_fn: str) -> None:
        super().__init__()
        act = MODULES[act_fn]
        convs = [Conv2d(width, width, 3, padding=1) for _ in range(3)]
        self.conv = nn.Sequential(convs[0], act(), convs[1], act(), convs[2])

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return F.relu(self.conv(x_BCHW) + x_BCHW)


class TinyEncoder(nn.Module):
    def __init__(self, config: TinyVAEConfig) -> None:
        super().__init__()
        layers = list[nn.Module]()
        for i, (width, count) in enumerate(
            zip(config.encoder_block_out_channels, config.num_encoder_blocks, strict=True)
        ):
            if i == 0:
                layers.append(Conv2d(config.in_channels, width, 3, padding=1))
            else:
                layers.append(Conv2d(width, width, 3, padding=1, stride=2, bias=False))
            layers += [TinyBlock(width, config.act_fn) for _ in range(count)]
        layers.append(Conv2d(config.encoder_block_out_channels[-1], config.latent_channels, 3, padding=1))
        self.layers = nn.Sequential(*layers)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return self.layers((x_BCHW + 1) / 2)


class TinyDecoder(nn.Module):
    def __init__(self, config: TinyVAEConfig) -> None:
        super().__init__()
        widths, act_fn = config.decoder_block_out_channels, config.act_fn
        layers: list[nn.Module] = [Conv2d(config.latent_channels, widths[0], 3, padding=1), MODULES[act_fn]()]
        for i, (width, count) in enumerate(zip(widths, config.num_decoder_blocks, strict=True)):
            last = i == len(widths) - 1
            layers += [TinyBlock(width, act_fn) for _ in range(count)]
            if not last:
                layers.append(nn.Upsample(scale_factor=config.upsampling_scaling_factor, mode=config.upsample_fn))
            layers.append(Conv2d(width, config.out_channels if last else width, 3, padding=1, bias=last))
        self.layers = nn.Sequential(*layers)

    def forward(self, z_BZhw: Tensor) -> Tensor:
        x_BCHW = self.layers(torch.tanh(z_BZhw / SOFT_CLAMP) * SOFT_CLAMP)
        return x_BCHW * 2 - 1


class TinyAutoencoder(Model[TinyVAEConfig], InPieces):
    """Pictures in -1..1 to scaled latents (no distribution), and back.

    Raises ModelError when the config describes a network that this program cannot build.
    """

    def __init__(self, config: TinyVAEConfig) -> None:
        super().__init__(config)
        config.check()
        self.encoder = TinyEncoder(config)
        self.decoder = TinyDecoder(config)
        self.pieces = Pieces()

    def encode(self, x_BCHW: Tensor) -> Tensor:
        """Latents, [B, Z, H / scale, W / scale]."""
        return self.pieces.run(self.encoder, x_BCHW, painted, TILE, Fraction(1, self.config.scale))

    def decode(self, z_BZhw: Tensor) -> Tensor:
        """The picture of some latents, nominally in -1..1: [B, C, h * scale, w * scale]."""
        scale = self.config.scale
        return self.pieces.run(self.decoder, z_BZhw, painted, TILE // scale, Fraction(scale))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """The reconstruction of `x`."""
        return self.decode(self.encode(x_BCHW))
