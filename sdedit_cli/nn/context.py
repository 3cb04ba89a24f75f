"""What the cross-attention layers read: keys and values of the text, and of image prompts, as one immutable value.

Shapes: B rows, S keys, N heads, D width of a head.
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
    """Built once for a text by `UNet2DCondition.context`; `kv` follows the order of the cross-attention layers."""

    kv: tuple[KV, ...]
    images: tuple[ImageSource, ...] = ()

    @property
    def shape(self) -> tuple[object, ...]:
        """Equal for contexts that can share a batch: the number of keys of each source, and the images' scales."""
        images = ((image.scales, _keys(image.kv)) for image in self.images)
        return (_keys(self.kv), *images)

    def rows(self, index: Tensor | Sequence[int]) -> Context:
        """The context of some rows, in the order of `index`; a row may be taken several times."""
        chosen = torch.as_tensor(index, device=self.kv[0][0].device)

        def take(kv: tuple[KV, ...]) -> tuple[KV, ...]:
            return tuple((k.index_select(0, chosen), v.index_select(0, chosen)) for k, v in kv)

        return Context(take(self.kv), tuple(ImageSource(take(image.kv), image.scales) for image in self.images))

    @staticmethod
    def cat(parts: Sequence[Context]) -> Context:
        """One context of all rows of `parts`. Raises ValueError when their texts or image prompts differ in `shape`."""
        first = parts[0]
        if any(part.shape != first.shape for part in parts):
            raise ValueError("contexts of different lengths, image prompts or scales cannot share a batch")

        def join(kvs: list[tuple[KV, ...]]) -> tuple[KV, ...]:
            return tuple(
                (torch.cat([k for k, _ in layer]), torch.cat([v for _, v in layer])) for layer in zip(*kvs, strict=True)
            )

        images = tuple(
            ImageSource(join([part.images[i].kv for part in parts]), image.scales)
            for i, image in enumerate(first.images)
        )
        return Context(join([part.kv for part in parts]), images)


def _keys(kv: tuple[KV, ...]) -> int:
    return kv[0][0].shape[2]
