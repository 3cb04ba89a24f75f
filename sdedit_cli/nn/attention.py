"""Attention layers: the transformer of the UNet's levels and the single head of the autoencoder.

Shapes: B rows, C channels, H W picture, T tokens (H*W positions), S keys, N heads, D width of a head, E features.
"""

from __future__ import annotations

from torch import Tensor, nn

from .base import Conv2d, GroupNorm, LayerNorm, Linear
from .context import KV, Context
from .layers import dropout
from .ops import Ops


class Attention(nn.Module):
    """Multi-head attention, to itself or (with `context_dim`) to the keys and values of layer `slot` of a Context."""

    def __init__(
        self, width: int, heads: int, ops: Ops, *, context_dim: int | None = None, bias: bool = False, drop: float = 0.0
    ) -> None:
        super().__init__()
        self.ops, self.heads = ops, heads
        self.crosses = context_dim is not None
        self.slot = 0
        self.to_q = Linear(width, width, bias=bias)
        self.to_k = Linear(context_dim or width, width, bias=bias)
        self.to_v = Linear(context_dim or width, width, bias=bias)
        self.to_out = nn.ModuleList([Linear(width, width), dropout(drop)])

    def split(self, x_BTC: Tensor) -> Tensor:
        """[B, T, C] -> [B, N, T, D]."""
        return x_BTC.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def keys(self, source_BSC: Tensor) -> KV:
        """Keys and values of what is attended to."""
        return self.split(self.to_k(source_BSC)), self.split(self.to_v(source_BSC))

    def join(self, q_BNTD: Tensor, kv: KV) -> Tensor:
        return self.ops.attention(q_BNTD, *kv).transpose(1, 2).flatten(-2)

    def forward(self, x_BTC: Tensor, context: Context | None = None) -> Tensor:
        q_BNTD = self.split(self.to_q(x_BTC))
        if context is None or not self.crosses:
            h_BTC = self.join(q_BNTD, self.keys(x_BTC))
        else:
            h_BTC = self.join(q_BNTD, context.kv[self.slot])
            for image in context.images:
                h_BTC = h_BTC + image.scales[self.slot] * self.join(q_BNTD, image.kv[self.slot])
        return self.to_out[1](self.to_out[0](h_BTC))


class GEGLU(nn.Module):
    def __init__(self, width: int, inner: int, ops: Ops) -> None:
        super().__init__()
        self.ops = ops
        self.proj = Linear(width, inner * 2)

    def forward(self, x_BTC: Tensor) -> Tensor:
        return self.ops.geglu(self.proj(x_BTC))


class FeedForward(nn.Module):
    def __init__(self, width: int, ops: Ops, drop: float) -> None:
        super().__init__()
        self.net = nn.ModuleList([GEGLU(width, width * 4, ops), dropout(drop), Linear(width * 4, width)])

    def forward(self, x_BTC: Tensor) -> Tensor:
        for layer in self.net:
            x_BTC = layer(x_BTC)
        return x_BTC


class TransformerBlock(nn.Module):
    """Self-attention (attention to the text where the config says `only_cross_attention`), text, feed-forward."""

    def __init__(
        self, width: int, heads: int, context_dim: int, ops: Ops, only_cross_attention: bool, drop: float
    ) -> None:
        super().__init__()
        first_dim = context_dim if only_cross_attention else None
        self.norm1 = LayerNorm(width)
        self.attn1 = Attention(width, heads, ops, context_dim=first_dim, drop=drop)
        self.norm2 = LayerNorm(width)
        self.attn2 = Attention(width, heads, ops, context_dim=context_dim, drop=drop)
        self.norm3 = LayerNorm(width)
        self.ff = FeedForward(width, ops, drop)

    def forward(self, x_BTC: Tensor, context: Context) -> Tensor:
        x_BTC = self.attn1(self.norm1(x_BTC), context) + x_BTC
        x_BTC = self.attn2(self.norm2(x_BTC), context) + x_BTC
        return self.ff(self.norm3(x_BTC)) + x_BTC


class Transformer2D(nn.Module):
    """Transformer blocks over the positions of a picture, around which `proj_in` and `proj_out` are 1x1 convolutions
    (SD 1.x) or linear layers (SD 2.x, SDXL): the same map, stored in another shape and applied in another order."""

    def __init__(
        self,
        width: int,
        heads: int,
        depth: int,
        context_dim: int,
        ops: Ops,
        *,
        groups: int,
        linear: bool,
        only_cross_attention: bool = False,
        drop: float = 0.0,
    ) -> None:
        super().__init__()
        self.linear = linear
        self.norm = GroupNorm(groups, width, eps=1e-6)
        self.proj_in = Linear(width, width) if linear else Conv2d(width, width, 1)
        self.transformer_blocks = nn.ModuleList(
            TransformerBlock(width, heads, context_dim, ops, only_cross_attention, drop) for _ in range(depth)
        )
        self.proj_out = Linear(width, width) if linear else Conv2d(width, width, 1)

    def forward(self, x_BCHW: Tensor, context: Context) -> Tensor:
        h_BCHW = self.norm(x_BCHW)
        if not self.linear:
            h_BCHW = self.proj_in(h_BCHW)
        h_BTC = h_BCHW.permute(0, 2, 3, 1).flatten(1, 2)
        if self.linear:
            h_BTC = self.proj_in(h_BTC)
        for block in self.transformer_blocks:
            h_BTC = block(h_BTC, context)
        if self.linear:
            h_BTC = self.proj_out(h_BTC)
        h_BCHW = h_BTC.unflatten(1, x_BCHW.shape[-2:]).permute(0, 3, 1, 2).contiguous()
        if not self.linear:
            h_BCHW = self.proj_out(h_BCHW)
        return h_BCHW + x_BCHW


class PictureAttention(Attention):
    """One head over all positions of a picture, with its own norm and residual: the autoencoder's bottom."""

    def __init__(self, width: int, ops: Ops, *, groups: int, eps: float) -> None:
        super().__init__(width, 1, ops, bias=True)
        self.group_norm = GroupNorm(groups, width, eps)

    def forward(self, x_BCHW: Tensor, context: Context | None = None) -> Tensor:
        h_BCT = self.group_norm(x_BCHW.flatten(2))
        h_BTC = super().forward(h_BCT.transpose(1, 2))
        return h_BTC.transpose(1, 2).reshape(x_BCHW.shape) + x_BCHW
