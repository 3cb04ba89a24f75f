"""The autoencoder between pictures and latents (AutoencoderKL of arXiv 2112.10752), top to bottom as data flows.

Shapes: B rows, C channels, H W picture, Z channels of the latents, h w latent picture.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..configs.vae import VAEConfig
from .attention import PictureAttention
from .base import Conv2d, GroupNorm, Model
from .layers import ACTIVATIONS, Downsample, Resnet, Upsample, norm_then_act
from .ops import Ops
from .tiling import InPieces, Pieces, Work, crossfaded

EPS = 1e-6


@dataclass(frozen=True)
class Gaussian:
    """A diagonal normal distribution over latents, [B, Z, h, w]; the log variance is clamped to -30..20."""

    mean: Tensor
    logvar: Tensor

    @cached_property
    def std(self) -> Tensor:
        return torch.exp(0.5 * self.logvar)

    @property
    def mode(self) -> Tensor:
        return self.mean

    def sample(self, noise: Tensor) -> Tensor:
        """mean + std * noise, for `noise` drawn from the standard normal by the caller."""
        return self.mean + self.std * noise


def vae_resnets(config: VAEConfig, widths: list[int], ops: Ops) -> nn.ModuleList:
    """Resnets from each of `widths` to the next."""
    return nn.ModuleList(
        Resnet(a, b, ops, groups=config.norm_num_groups, eps=EPS, act=ACTIVATIONS[config.act_fn])
        for a, b in pairwise(widths)
    )


class EncoderBlock(nn.Module):
    def __init__(self, config: VAEConfig, channels: int, out_channels: int, last: bool, ops: Ops) -> None:
        super().__init__()
        self.resnets = vae_resnets(config, [channels] + [out_channels] * config.layers_per_block, ops)
        self.downsamplers = nn.ModuleList([] if last else [Downsample(out_channels, padding=0)])

    def forward(self, x_BCHW: Tensor) -> Tensor:
        for layer in (*self.resnets, *self.downsamplers):
            x_BCHW = layer(x_BCHW)
        return x_BCHW


class DecoderBlock(nn.Module):
    def __init__(self, config: VAEConfig, channels: int, out_channels: int, last: bool, ops: Ops) -> None:
        super().__init__()
        self.resnets = vae_resnets(config, [channels] + [out_channels] * (config.layers_per_block + 1), ops)
        self.upsamplers = nn.ModuleList([] if last else [Upsample(out_channels)])

    def forward(self, x_BCHW: Tensor) -> Tensor:
        for layer in (*self.resnets, *self.upsamplers):
            x_BCHW = layer(x_BCHW)
        return x_BCHW


class Bottom(nn.Module):
    """A resnet, attention over the positions where the config has it, a resnet."""

    def __init__(self, config: VAEConfig, channels: int, ops: Ops) -> None:
        super().__init__()
        count = 1 if config.mid_block_add_attention else 0
        self.attentions = nn.ModuleList(
            PictureAttention(channels, ops, groups=config.norm_num_groups, eps=EPS) for _ in range(count)
        )
        self.resnets = vae_resnets(config, [channels] * 3, ops)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        for layer in (self.resnets[0], *self.attentions, self.resnets[1]):
            x_BCHW = layer(x_BCHW)
        return x_BCHW


class Encoder(nn.Module):
    def __init__(self, config: VAEConfig, ops: Ops) -> None:
        super().__init__()
        self.ops = ops
        widths = config.block_out_channels
        self.conv_in = Conv2d(config.in_channels, widths[0], 3, padding=1)
        self.down_blocks = nn.ModuleList(
            EncoderBlock(config, widths[max(i - 1, 0)], width, i == len(widths) - 1, ops)
            for i, width in enumerate(widths)
        )
        self.mid_block = Bottom(config, widths[-1], ops)
        self.conv_norm_out = GroupNorm(config.norm_num_groups, widths[-1], EPS)
        self.conv_out = Conv2d(widths[-1], 2 * config.latent_channels, 3, padding=1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return self.conv_out(self.features(x_BCHW))

    def features(self, x_BCHW: Tensor) -> Tensor:
        """The deepest feature map, of which `conv_out` makes the distribution."""
        x_BCHW = self.conv_in(x_BCHW)
        for block in self.down_blocks:
            x_BCHW = block(x_BCHW)
        x_BCHW = self.mid_block(x_BCHW)
        return norm_then_act(x_BCHW, self.conv_norm_out, F.silu, self.ops)


class Decoder(nn.Module):
    def __init__(self, config: VAEConfig, ops: Ops) -> None:
        super().__init__()
        self.ops = ops
        widths = config.block_out_channels[::-1]
        self.conv_in = Conv2d(config.latent_channels, widths[0], 3, padding=1)
        self.mid_block = Bottom(config, widths[0], ops)
        self.up_blocks = nn.ModuleList(
            DecoderBlock(config, widths[max(i - 1, 0)], width, i == len(widths) - 1, ops)
            for i, width in enumerate(widths)
        )
        self.conv_norm_out = GroupNorm(config.norm_num_groups, widths[-1], EPS)
        self.conv_out = Conv2d(widths[-1], config.out_channels, 3, padding=1)

    def forward(self, z_BZhw: Tensor) -> Tensor:
        x_BCHW = self.mid_block(self.conv_in(z_BZhw))
        for block in self.up_blocks:
            x_BCHW = block(x_BCHW)
        return self.conv_out(norm_then_act(x_BCHW, self.conv_norm_out, F.silu, self.ops))


class AutoencoderKL(Model[VAEConfig], InPieces):
    """Pictures in -1..1 to a distribution over latents, and back. Latents are unscaled: `config.scaling_factor`,
    `shift_factor`, `latents_mean` and `latents_std` are for the caller to apply. `pieces` says how large work is cut;
    `ways` has, by the names of `moments` and `pixels`, how hardware gets there. Both may be changed between calls.

    Raises ModelError when the config describes a network that this program cannot build.
    """

    def __init__(self, config: VAEConfig) -> None:
        super().__init__(config)
        config.check()
        latents = config.latent_channels
        self.encoder = Encoder(config, self.ops)
        self.quant_conv = Conv2d(2 * latents, 2 * latents, 1) if config.use_quant_conv else nn.Identity()
        self.post_quant_conv = Conv2d(latents, latents, 1) if config.use_post_quant_conv else nn.Identity()
        self.decoder = Decoder(config, self.ops)

        self.pieces = Pieces()
        self.ways: dict[str, Work] = {}

    def encode(self, x_BCHW: Tensor) -> Gaussian:
        """The distribution over latents, [B, Z, H / scale, W / scale]."""
        tile, scale = self._tile(), Fraction(1, self.config.scale)
        work = self.ways.get("moments", self.moments)
        moments = self.pieces.run(work, x_BCHW, crossfaded, tile, scale)
        mean, logvar = moments.chunk(2, dim=1)
        return Gaussian(mean, logvar.clamp(-30.0, 20.0))

    def decode(self, z_BZhw: Tensor) -> Tensor:
        """The picture of some latents, nominally in -1..1: [B, C, h * scale, w * scale]."""
        tile, scale = self._tile() // self.config.scale, Fraction(self.config.scale)
        return self.pieces.run(self.ways.get("pixels", self.pixels), z_BZhw, crossfaded, tile, scale)

    def moments(self, x_BCHW: Tensor) -> Tensor:
        """Means and log variances of the latents of a picture seen whole, [B, 2 Z, H / scale, W / scale]."""
        return self.quant_conv(self.encoder(x_BCHW))

    def pixels(self, z_BZhw: Tensor) -> Tensor:
        """The picture of some latents seen whole."""
        return self.decoder(self.post_quant_conv(z_BZhw))

    def _tile(self) -> int:
        """The side of a tile in pixels: that of the pictures it was trained on."""
        size = self.config.sample_size
        return size if isinstance(size, int) else size[0]

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """The reconstruction of `x` from the mode of its distribution."""
        return self.decode(self.encode(x_BCHW).mode)
