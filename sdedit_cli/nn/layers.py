"""Layers shared by the UNet and the autoencoder: time embedding, residual block, change of resolution.

Shapes: B rows, C channels (K: those of the result), H W picture, E time embedding.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .base import Conv2d, GroupNorm, Linear
from .ops import Ops, Shifts, shifted
from .wrap import pad

Activation = Callable[[Tensor], Tensor]

ACTIVATIONS: dict[str, Activation] = {
    "silu": F.silu,
    "swish": F.silu,
    "mish": F.mish,
    "gelu": F.gelu,
    "relu": F.relu,
}


def norm_then_act(x_BCHW: Tensor, norm: GroupNorm, act: Activation, ops: Ops, shifts: Shifts = ()) -> Tensor:
    """act(norm(x + shifts)), through the replaceable operation when there is one for `act`."""
    normed = ops.group_norm_silu if act is F.silu else ops.group_norm
    y_BCHW = normed(x_BCHW, norm.num_groups, norm.weight, norm.bias, norm.eps, shifts)
    return y_BCHW if act is F.silu else act(y_BCHW)


def convolved(x_BCHW: Tensor, conv: Conv2d, ops: Ops) -> tuple[Tensor, Shifts]:
    """conv(x), and the bias where that is left to what follows."""
    if ops.channels_last and conv.bias is not None:  # pyright: ignore[reportUnnecessaryComparison] -- torch types a missing bias as present
        return conv.without_bias(x_BCHW), (conv.bias,)
    return conv(x_BCHW), ()


def dropout(p: float) -> nn.Module:
    """A layer that drops in training; nothing to call or to compile when `p` is 0, as in almost every config."""
    return nn.Dropout(p) if p else nn.Identity()


def sinusoid(t_B: Tensor, dim: int, flip_sin_to_cos: bool, freq_shift: float) -> Tensor:
    """Sinusoidal features of the timesteps in float32, [B, dim] (arXiv 1706.03762 section 3.5, as in DDPM).

    Half are sines and half cosines (cosines first when flipped) of t times frequencies from 1 down to 1/10000.
    """
    half = dim // 2
    exponent = -math.log(10000) * torch.arange(half, dtype=torch.float32, device=t_B.device) / (half - freq_shift)
    angle = t_B[:, None].float() * torch.exp(exponent)[None, :]
    parts = [angle.cos(), angle.sin()] if flip_sin_to_cos else [angle.sin(), angle.cos()]
    return F.pad(torch.cat(parts, dim=-1), (0, dim % 2))


class TimeEmbedding(nn.Module):
    """Two linear layers on sinusoidal features; `cond_proj` adds LCM's guidance embedding (arXiv 2310.04378)."""

    def __init__(self, features: int, width: int, act: Activation, condition: int | None = None) -> None:
        super().__init__()
        self.linear_1 = Linear(features, width)
        self.cond_proj = Linear(condition, features, bias=False) if condition else None
        self.act = act
        self.linear_2 = Linear(width, width)

    def forward(self, features_BF: Tensor, condition_BG: Tensor | None = None) -> Tensor:
        if condition_BG is not None and self.cond_proj is not None:
            features_BF = features_BF + self.cond_proj(condition_BG)
        return self.linear_2(self.act(self.linear_1(features_BF)))


class Resnet(nn.Module):
    """Residual block of two convolutions, with the time embedding added between them or scaling and shifting there.

    The embedding arrives after its activation, computed once for the whole network.
    """

    def __init__(
        self,
        channels: int,
        out_channels: int,
        ops: Ops,
        *,
        groups: int,
        eps: float,
        act: Activation,
        time_dim: int | None = None,
        scale_shift: bool = False,
        drop: float = 0.0,
        divisor: float = 1.0,
    ) -> None:
        super().__init__()
        self.ops, self.act, self.scale_shift, self.divisor = ops, act, scale_shift, divisor
        self.norm1 = GroupNorm(groups, channels, eps)
        self.conv1 = Conv2d(channels, out_channels, 3, padding=1)
        self.time_emb_proj = Linear(time_dim, out_channels * (2 if scale_shift else 1)) if time_dim else None
        self.norm2 = GroupNorm(groups, out_channels, eps)
        self.dropout = dropout(drop)
        self.conv2 = Conv2d(out_channels, out_channels, 3, padding=1)
        self.conv_shortcut = Conv2d(channels, out_channels, 1) if channels != out_channels else None

    def forward(self, x_BCHW: Tensor, emb_BE: Tensor | None = None) -> Tensor:
        h_BKHW, shifts = convolved(norm_then_act(x_BCHW, self.norm1, self.act, self.ops), self.conv1, self.ops)
        if self.time_emb_proj is None or emb_BE is None:
            h_BKHW = norm_then_act(h_BKHW, self.norm2, self.act, self.ops, shifts)
        elif self.scale_shift:
            # Cut before the axes are added: compiling it the other way round ends OpenVINO's process.
            scale, shift = (part_BK[:, :, None, None] for part_BK in self.time_emb_proj(emb_BE).chunk(2, dim=1))
            h_BKHW = self.act(self.norm2(shifted(h_BKHW, shifts)) * (1 + scale) + shift)
        else:
            h_BKHW = norm_then_act(h_BKHW, self.norm2, self.act, self.ops, (*shifts, self.time_emb_proj(emb_BE)))
        h_BKHW, shifts = convolved(self.dropout(h_BKHW), self.conv2, self.ops)
        skip_BKHW = x_BCHW
        if self.conv_shortcut is not None:
            skip_BKHW, more = convolved(x_BCHW, self.conv_shortcut, self.ops)
            shifts += more
        out_BKHW = self.ops.residual(h_BKHW, skip_BKHW, shifts)
        return out_BKHW if self.divisor == 1.0 else out_BKHW / self.divisor


class Downsample(nn.Module):
    """Half the resolution by a strided convolution. Padding 0 pads the right and bottom only, as LDM's encoder does."""

    def __init__(self, channels: int, padding: int) -> None:
        super().__init__()
        self.conv = Conv2d(channels, channels, 3, stride=2, padding=padding)
        self.padding = padding

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return self.conv(x_BCHW if self.padding else pad(x_BCHW, (0, 1, 0, 1), self.conv.wrap))


class Upsample(nn.Module):
    """Twice the resolution, or the `size` of the skip it will be joined with (odd sizes), then a convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = Conv2d(channels, channels, 3, padding=1)

    def forward(self, x_BCHW: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        size = size or (x_BCHW.shape[-2] * 2, x_BCHW.shape[-1] * 2)
        return self.conv(F.interpolate(x_BCHW, size=size, mode="nearest"))
