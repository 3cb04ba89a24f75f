"""The blocks of the UNet: a level on the way down, the bottom, a level on the way up.

Shapes: B rows, C channels, H W picture, E time embedding.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..configs.unet import Level, UNetConfig
from .attention import Transformer2D
from .context import Context
from .deep import Deep
from .freeu import FreeU
from .layers import ACTIVATIONS, Downsample, Resnet, Upsample
from .ops import Ops


def unet_resnet(config: UNetConfig, channels: int, out_channels: int, ops: Ops, divisor: float = 1.0) -> Resnet:
    return Resnet(
        channels,
        out_channels,
        ops,
        groups=config.norm_num_groups,
        eps=config.norm_eps,
        act=ACTIVATIONS[config.act_fn],
        time_dim=config.time_dim,
        scale_shift=config.resnet_time_scale_shift == "scale_shift",
        drop=config.dropout,
        divisor=divisor,
    )


def transformers(config: UNetConfig, level: Level, ops: Ops) -> nn.ModuleList:
    """The transformer of each layer of a level; empty where the level does not attend."""
    return nn.ModuleList(
        Transformer2D(
            level.channels,
            level.heads,
            depth,
            level.context_dim,
            ops,
            groups=config.norm_num_groups,
            linear=config.use_linear_projection,
            only_cross_attention=level.only_cross_attention,
        )
        for depth in level.depths[: level.layers if level.attends else 0]
    )


class DownBlock(nn.Module):
    """Resnets, each with its transformer where the level attends, then half the resolution unless it is the last."""

    def __init__(self, config: UNetConfig, level: Level, channels: int, last: bool, ops: Ops) -> None:
        super().__init__()
        widths = [channels] + [level.channels] * (level.layers - 1)
        self.resnets = nn.ModuleList(unet_resnet(config, width, level.channels, ops) for width in widths)
        self.attentions = transformers(config, level, ops)
        self.downsamplers = nn.ModuleList([] if last else [Downsample(level.channels, config.downsample_padding)])

    def forward(self, x_BCHW: Tensor, emb_BE: Tensor, context: Context) -> tuple[Tensor, list[Tensor]]:
        """The level's output, and everything that the way up will want."""
        skips: list[Tensor] = []
        for i, resnet in enumerate(self.resnets):
            x_BCHW = resnet(x_BCHW, emb_BE)
            if self.attentions:
                x_BCHW = self.attentions[i](x_BCHW, context)
            skips.append(x_BCHW)
        for downsample in self.downsamplers:
            x_BCHW = downsample(x_BCHW)
            skips.append(x_BCHW)
        return x_BCHW, skips


class MidBlock(nn.Module):
    """A resnet, a transformer and a resnet; only the first resnet where the bottom does not attend."""

    def __init__(self, config: UNetConfig, level: Level, ops: Ops) -> None:
        super().__init__()
        count = 2 if level.attends else 1
        divisor = config.mid_block_scale_factor
        self.resnets = nn.ModuleList(
            unet_resnet(config, level.channels, level.channels, ops, divisor) for _ in range(count)
        )
        self.attentions = transformers(config, level, ops)

    def forward(self, x_BCHW: Tensor, emb_BE: Tensor, context: Context) -> Tensor:
        x_BCHW = self.resnets[0](x_BCHW, emb_BE)
        for attention, resnet in zip(self.attentions, self.resnets[1:], strict=True):
            x_BCHW = resnet(attention(x_BCHW, context), emb_BE)
        return x_BCHW


class UpBlock(nn.Module):
    """Resnets over the stream joined with the skips of the way down, transformers, then the next skip's resolution."""

    def __init__(self, config: UNetConfig, level: Level, channels: list[int], last: bool, ops: Ops) -> None:
        """`channels`: those that enter each resnet, the skip's included."""
        super().__init__()
        self.resnets = nn.ModuleList(unet_resnet(config, width, level.channels, ops) for width in channels)
        self.attentions = transformers(config, level, ops)
        self.upsamplers = nn.ModuleList([] if last else [Upsample(level.channels)])

    def forward(
        self,
        x_BCHW: Tensor,
        skips: list[Tensor],
        emb_BE: Tensor,
        context: Context,
        freeu: FreeU | None,
        index: int,
        deep: Deep | None = None,
    ) -> Tensor:
        """Takes its skips from the end of `skips`; `deep` gets what enters the last layer."""
        *others, last = range(len(self.resnets))
        for i in others:
            x_BCHW = self._layer(i, x_BCHW, skips, emb_BE, context, freeu, index)
        if deep is not None:
            deep.x_BCHW = x_BCHW
        x_BCHW = self._layer(last, x_BCHW, skips, emb_BE, context, freeu, index)
        for upsample in self.upsamplers:
            height, width = skips[-1].shape[-2:]
            x_BCHW = upsample(x_BCHW, (height, width))
        return x_BCHW

    def last_layer(
        self, x_BCHW: Tensor, skips: list[Tensor], emb_BE: Tensor, context: Context, freeu: FreeU | None, index: int
    ) -> Tensor:
        """Of the topmost level, what `forward` does from its last layer on."""
        return self._layer(len(self.resnets) - 1, x_BCHW, skips, emb_BE, context, freeu, index)

    def _layer(
        self,
        i: int,
        x_BCHW: Tensor,
        skips: list[Tensor],
        emb_BE: Tensor,
        context: Context,
        freeu: FreeU | None,
        index: int,
    ) -> Tensor:
        skip_BKHW = skips.pop()
        if freeu is not None:
            x_BCHW, skip_BKHW = freeu.merge(index, x_BCHW, skip_BKHW)
        x_BCHW = self.resnets[i](torch.cat([x_BCHW, skip_BKHW], dim=1), emb_BE)
        return self.attentions[i](x_BCHW, context) if self.attentions else x_BCHW
