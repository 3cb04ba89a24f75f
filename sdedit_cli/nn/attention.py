"""Attention layers: the transformer of the UNet's levels and the single head of the autoencoder.

Shapes: B rows, C channels, H W picture, T tokens (H*W positions), S keys, N heads, D width of a head, E features.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .base import Conv2d, GroupNorm, LayerNorm, Linear
from .context import KV, Context, ImageSource
from .ops import Ops


class Heads(nn.Module):
    """The projections of multi-head attention, and what is computed between them. `fuse` joins them in one storage.

    Where trainers drop values the list has nothing in its place: files number what follows."""

    def __init__(self, width: int, heads: int, ops: Ops, *, context_dim: int | None, bias: bool) -> None:
        super().__init__()
        self.ops, self.heads = ops, heads
        self.crosses = context_dim is not None
        self.to_q = Linear(width, width, bias=bias)
        self.to_k = Linear(context_dim or width, width, bias=bias)
        self.to_v = Linear(context_dim or width, width, bias=bias)
        self.to_out = nn.ModuleList([Linear(width, width), nn.Identity()])
        self._joint: tuple[Tensor, Tensor | None] | None = None

    def split(self, x_BTC: Tensor) -> Tensor:
        """[B, T, C] -> [B, N, T, D]."""
        return x_BTC.view(*x_BTC.shape[:2], self.heads, -1).transpose(1, 2)

    def keys(self, source_BSC: Tensor) -> KV:
        """Keys and values of another source, each [B, N, S, D]."""
        k_BNSD, v_BNSD = self._project(source_BSC, self.to_k, self.to_v)
        return k_BNSD, v_BNSD

    def queries_keys(self, x_BTC: Tensor) -> tuple[Tensor, KV]:
        """Queries, keys and values of `x` itself, each [B, N, T, D]."""
        q_BNTD, k_BNTD, v_BNTD = self._project(x_BTC, self.to_q, self.to_k, self.to_v)
        return q_BNTD, (k_BNTD, v_BNTD)

    def attend(self, q_BNTD: Tensor, kv: KV) -> Tensor:
        """[B, T, C], before the output projection."""
        return self.ops.attention(q_BNTD, *kv).transpose(1, 2).flatten(-2)

    def project_out(self, h_BTC: Tensor) -> Tensor:
        return self.to_out[1](self.to_out[0](h_BTC))

    def _project(self, x_BTC: Tensor, *projections: Linear) -> list[Tensor]:
        # The joint storage is not a parameter: where gradients are wanted, the separate ones take them.
        if self._joint is None or torch.is_grad_enabled():
            return [self.split(projection(x_BTC)) for projection in projections]
        return [self.split(part) for part in F.linear(x_BTC, *self._joint).chunk(len(projections), dim=-1)]

    def fuse(self) -> None:
        """Queries, keys and values (of a layer that reads a context: keys and values) become views of one storage."""
        if self._joint is not None:
            return
        layers = [self.to_k, self.to_v] if self.crosses else [self.to_q, self.to_k, self.to_v]
        weight = _join([layer.weight for layer in layers])
        biases = [layer.bias for layer in layers if layer.bias is not None]  # pyright: ignore[reportUnnecessaryComparison] -- torch types a missing bias as present
        self._joint = (weight, _join(biases) if biases else None)

    def unfuse(self) -> None:
        """Every projection has its own storage again, with the values it has."""
        if self._joint is None:
            return
        self._joint = None
        for layer in (self.to_q, self.to_k, self.to_v):
            for parameter in layer.parameters():
                parameter.data = parameter.data.clone()

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Heads:
        # A change of dtype or device gives every parameter a storage of its own.
        fused = self._joint is not None
        self.unfuse()
        super()._apply(fn, recurse)  # pyright: ignore[reportUnknownMemberType] -- torch leaves it untyped
        if fused:
            self.fuse()
        return self


def _join(parameters: Sequence[Tensor]) -> Tensor:
    joint = torch.cat([parameter.data for parameter in parameters])
    for parameter, part in zip(parameters, torch.split(joint, [len(p) for p in parameters]), strict=True):
        parameter.data = part
    return joint


class Attention(Heads):
    """Attention to itself, or (with `context_dim`) to the keys and values that a Context has for layer `slot`."""

    def __init__(self, width: int, heads: int, ops: Ops, *, context_dim: int | None = None) -> None:
        super().__init__(width, heads, ops, context_dim=context_dim, bias=False)
        self.slot = 0

    def forward(self, x_BTC: Tensor, context: Context) -> Tensor:
        if not self.crosses:
            return self._to_itself(x_BTC) if context.merging is None else context.merging.around(x_BTC, self._to_itself)
        q_BNTD = self.split(self.to_q(x_BTC))
        h_BTC = self.attend(q_BNTD, context.kv[self.slot])
        for image in context.images:
            if image.scales[self.slot]:
                h_BTC = h_BTC + self._seen(q_BNTD, image)
        return self.project_out(h_BTC)

    def _to_itself(self, x_BTC: Tensor) -> Tensor:
        return self.project_out(self.attend(*self.queries_keys(x_BTC)))

    def _seen(self, q_BNTD: Tensor, image: ImageSource) -> Tensor:
        """What an image prompt adds."""
        h_BTC = image.scales[self.slot] * self.attend(q_BNTD, image.kv[self.slot])
        return h_BTC * image.masks[self.slot] if image.masks else h_BTC


class GEGLU(nn.Module):
    """`way` is how a device computes it otherwise."""

    way: Callable[[GEGLU, Tensor], Tensor] | None = None

    def __init__(self, width: int, inner: int, ops: Ops) -> None:
        super().__init__()
        self.ops = ops
        self.proj = Linear(width, inner * 2)

    def forward(self, x_BTC: Tensor) -> Tensor:
        return self.ops.geglu(self.proj(x_BTC)) if self.way is None else self.way(self, x_BTC)


class FeedForward(nn.Module):
    def __init__(self, width: int, ops: Ops) -> None:
        super().__init__()
        self.net = nn.ModuleList([GEGLU(width, width * 4, ops), nn.Identity(), Linear(width * 4, width)])

    def forward(self, x_BTC: Tensor) -> Tensor:
        for layer in self.net:
            x_BTC = layer(x_BTC)
        return x_BTC


class TransformerBlock(nn.Module):
    """Self-attention (attention to the text where the config says `only_cross_attention`), text, feed-forward."""

    def __init__(self, width: int, heads: int, context_dim: int, ops: Ops, only_cross_attention: bool) -> None:
        super().__init__()
        self.ops = ops
        first_dim = context_dim if only_cross_attention else None
        self.norm1 = LayerNorm(width)
        self.attn1 = Attention(width, heads, ops, context_dim=first_dim)
        self.norm2 = LayerNorm(width)
        self.attn2 = Attention(width, heads, ops, context_dim=context_dim)
        self.norm3 = LayerNorm(width)
        self.ff = FeedForward(width, ops)

    def forward(self, x_BTC: Tensor, context: Context) -> Tensor:
        h_BTC = self.ops.layer_norm(x_BTC, self.norm1.weight, self.norm1.bias, self.norm1.eps)
        x_BTC, h_BTC = self._added(self.attn1(h_BTC, context), x_BTC, self.norm2)
        x_BTC, h_BTC = self._added(self.attn2(h_BTC, context), x_BTC, self.norm3)
        return self.ff(h_BTC) + x_BTC

    def _added(self, h_BTC: Tensor, x_BTC: Tensor, norm: LayerNorm) -> tuple[Tensor, Tensor]:
        return self.ops.add_layer_norm(h_BTC, x_BTC, norm.weight, norm.bias, norm.eps)


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
    ) -> None:
        super().__init__()
        self.ops, self.linear = ops, linear
        self.norm = GroupNorm(groups, width, eps=1e-6)
        self.proj_in = Linear(width, width) if linear else Conv2d(width, width, 1)
        self.transformer_blocks = nn.ModuleList(
            TransformerBlock(width, heads, context_dim, ops, only_cross_attention) for _ in range(depth)
        )
        self.proj_out = Linear(width, width) if linear else Conv2d(width, width, 1)

    def forward(self, x_BCHW: Tensor, context: Context) -> Tensor:
        h_BCHW = self.ops.group_norm(x_BCHW, self.norm.num_groups, self.norm.weight, self.norm.bias, self.norm.eps, ())
        as_product = self.linear or self.ops.channels_last
        if not as_product:
            h_BCHW = self.proj_in(h_BCHW)
        h_BTC = h_BCHW.permute(0, 2, 3, 1).flatten(1, 2)
        if as_product:
            h_BTC = _product(h_BTC, self.proj_in)
        for block in self.transformer_blocks:
            h_BTC = block(h_BTC, context)
        if as_product:
            h_BTC = _product(h_BTC, self.proj_out)
        h_BHWC: Tensor = cast(Any, h_BTC).unflatten(1, x_BCHW.shape[-2:])
        h_BCHW = h_BHWC.permute(0, 3, 1, 2)
        if x_BCHW.is_contiguous():
            h_BCHW = h_BCHW.contiguous()
        if not as_product:
            h_BCHW = self.proj_out(h_BCHW)
        return h_BCHW + x_BCHW


def _product(x_BTC: Tensor, layer: Linear | Conv2d) -> Tensor:
    """A linear layer, or a 1x1 convolution as one, over tokens."""
    if isinstance(layer, Linear):
        return layer(x_BTC)
    return F.linear(x_BTC, layer.weight.flatten(1), layer.bias)


class PictureAttention(Heads):
    """One head over all positions of a picture, with its own norm and residual: the autoencoder's bottom."""

    def __init__(self, width: int, ops: Ops, *, groups: int, eps: float) -> None:
        super().__init__(width, 1, ops, context_dim=None, bias=True)
        self.group_norm = GroupNorm(groups, width, eps)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        h_BTC = self.group_norm(x_BCHW.flatten(2)).transpose(1, 2)
        h_BTC = self.project_out(self.attend(*self.queries_keys(h_BTC)))
        return h_BTC.transpose(1, 2).reshape(x_BCHW.shape) + x_BCHW
