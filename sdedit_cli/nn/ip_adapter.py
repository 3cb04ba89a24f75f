"""IP-Adapter (arXiv 2308.06721): what an image encoder says of a picture as tokens, and keys and values of them.

Modules and parameters are named as in adapters' files.

Shapes: R rows, P pictures of a row, S states of the encoder's last layer but one, E its width, T tokens, C width of
the text that the UNet reads, L latents and W width of the resampler, N heads, D width of a head.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .base import LayerNorm, Linear

HEAD = 64
"""The width of the resampler's heads."""


class LinearProjection(nn.Module):
    """The encoder's projected embedding as a few tokens: the base variant."""

    def __init__(self, features: int, tokens: int, width: int) -> None:
        super().__init__()
        self.proj = Linear(features, tokens * width)
        self.norm = LayerNorm(width)

    def forward(self, x_RE: Tensor) -> Tensor:
        return self.norm(self.proj(x_RE).unflatten(-1, (-1, self.norm.normalized_shape[0])))


class StatesProjection(nn.Module):
    """Each state of the encoder as a token, by two linear layers: the full-face variant."""

    def __init__(self, features: int, inner: int, width: int) -> None:
        super().__init__()
        self.proj = nn.Sequential(Linear(features, inner), nn.GELU(), Linear(inner, width), LayerNorm(width))

    def forward(self, x_RSE: Tensor) -> Tensor:
        return self.proj(x_RSE)


class LatentAttention(nn.Module):
    """Latents that attend to states and to themselves."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.norm1 = LayerNorm(width)
        self.norm2 = LayerNorm(width)
        self.to_q = Linear(width, inner, bias=False)
        self.to_kv = Linear(width, inner * 2, bias=False)
        self.to_out = Linear(inner, width, bias=False)

    def forward(self, x_RSW: Tensor, latents_RLW: Tensor) -> Tensor:
        latents_RLW = self.norm2(latents_RLW)
        k, v = self.to_kv(torch.cat([self.norm1(x_RSW), latents_RLW], dim=1)).chunk(2, dim=-1)
        q_RNLD, k_RNSD, v_RNSD = (y.unflatten(-1, (-1, HEAD)).transpose(1, 2) for y in (self.to_q(latents_RLW), k, v))
        h_RNLD = F.scaled_dot_product_attention(q_RNLD, k_RNSD, v_RNSD)
        return self.to_out(h_RNLD.transpose(1, 2).flatten(-2))


class Resampler(nn.Module):
    """Learned latents that read the encoder's states layer by layer (arXiv 2204.14198): the plus variants."""

    def __init__(
        self, features: int, tokens: int, width: int, *, resampled: int, inner: int, hidden: int, depth: int
    ) -> None:
        super().__init__()
        self.latents = nn.Parameter(torch.empty(1, tokens, resampled))
        self.proj_in = Linear(features, resampled)
        self.layers = nn.ModuleList(
            nn.ModuleList([LatentAttention(resampled, inner), _feed_forward(resampled, hidden)]) for _ in range(depth)
        )
        self.proj_out = Linear(resampled, width)
        self.norm_out = LayerNorm(width)

    def forward(self, x_RSE: Tensor) -> Tensor:
        x_RSW = self.proj_in(x_RSE)
        latents_RLW = self.latents.expand(len(x_RSE), -1, -1)
        for layer in cast("Iterable[nn.ModuleList]", self.layers):
            attention, feed_forward = layer
            latents_RLW = attention(x_RSW, latents_RLW) + latents_RLW
            latents_RLW = feed_forward(latents_RLW) + latents_RLW
        return self.norm_out(self.proj_out(latents_RLW))


def _feed_forward(width: int, hidden: int) -> nn.Sequential:
    return nn.Sequential(
        LayerNorm(width), Linear(width, hidden, bias=False), nn.GELU(), Linear(hidden, width, bias=False)
    )


class ImageKeys(nn.Module):
    """Keys and values of image tokens for one attention of the UNet."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.to_k_ip = Linear(width, channels, bias=False)
        self.to_v_ip = Linear(width, channels, bias=False)

    def forward(self, x_RTC: Tensor) -> tuple[Tensor, Tensor]:
        return self.to_k_ip(x_RTC), self.to_v_ip(x_RTC)


class ImageAdapter(nn.Module):
    """A projection, and `layers` for the modules of a UNet that are called `names`."""

    def __init__(self, projection: nn.Module, layers: Sequence[ImageKeys], names: Sequence[str]) -> None:
        super().__init__()
        self.image_proj = projection
        self.ip_adapter = nn.ModuleList(layers)
        self.names = tuple(names)

    @property
    def keys(self) -> list[ImageKeys]:
        """One for each of `names`."""
        return list(cast("Iterable[ImageKeys]", self.ip_adapter))

    @property
    def dtype(self) -> torch.dtype:
        return next(self.parameters()).dtype

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    def tokens(self, embeds: Tensor) -> Tensor:
        """[R, P, T, C] of what the encoder said: [R, P, E], or the states [R, P, S, E]."""
        rows, pictures = embeds.shape[:2]
        found: Tensor = self.image_proj(embeds.to(self.device, self.dtype).flatten(0, 1))
        return found.reshape(rows, pictures, *found.shape[1:])
