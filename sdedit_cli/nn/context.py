"""What the cross-attention layers read: the text, its keys and values, and image prompts, as one immutable value.

Shapes: B rows, T tokens, C width of the text, S keys, N heads, D width of a head.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

KV = tuple[Tensor, Tensor]
"""Keys and values of one layer, each [B, N, S, D]."""


@dataclass(frozen=True)
class ImageSource:
    """Keys and values of an image prompt, and its weight, for each cross-attention layer (arXiv 2308.06721)."""

    kv: tuple[KV, ...]
    scales: tuple[float, ...]


@dataclass(frozen=True)
class Context:
    """Built once for a prompt by `UNet2DCondition.context`; `kv` follows the order of the cross-attention layers."""

    text_BTC: Tensor
    kv: tuple[KV, ...] = ()
    images: tuple[ImageSource, ...] = ()

    def rows(self, index: Tensor | Sequence[int]) -> Context:
        """The context of some rows, in the order of `index`; a row may be taken several times."""
        chosen = torch.as_tensor(index, device=self.text_BTC.device)

        def take(kv: tuple[KV, ...]) -> tuple[KV, ...]:
            return tuple((k.index_select(0, chosen), v.index_select(0, chosen)) for k, v in kv)

        images = tuple(ImageSource(take(image.kv), image.scales) for image in self.images)
        return Context(self.text_BTC.index_select(0, chosen), take(self.kv), images)

    @staticmethod
    def cat(parts: Sequence[Context]) -> Context:
        """One context of all rows of `parts`. Raises ValueError when their image prompts differ in number or scales."""
        first = parts[0]
        scales = [image.scales for image in first.images]
        if any([image.scales for image in part.images] != scales for part in parts):
            raise ValueError("contexts of different image prompts or scales cannot share a batch")

        def join(kvs: list[tuple[KV, ...]]) -> tuple[KV, ...]:
            return tuple(
                (torch.cat([k for k, _ in layer]), torch.cat([v for _, v in layer])) for layer in zip(*kvs, strict=True)
            )

        images = tuple(
            ImageSource(join([part.images[i].kv for part in parts]), image.scales)
            for i, image in enumerate(first.images)
        )
        return Context(torch.cat([part.text_BTC for part in parts]), join([part.kv for part in parts]), images)
