"""What the cross-attention layers read: keys and values of the text, and of image prompts, as one immutable value.

Shapes: B rows, S keys, T positions of a picture, N heads, D width of a head.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .tokens import Merging

KV = tuple[Tensor, Tensor]
"""Keys and values of one layer, each [B, N, S, D]."""


@dataclass(frozen=True)
class ImageSource:
    """Keys and values of an image prompt, and its weight, for each cross-attention layer (arXiv 2308.06721).

    Of a layer that does not read it the weight is 0, and there may be no keys. `masks` say where in the picture it
    counts: [B, T, 1] for the T positions of each layer; none of them where it counts everywhere.
    """

    kv: tuple[KV, ...]
    scales: tuple[float, ...]
    masks: tuple[Tensor, ...] = ()

    @property
    def shape(self) -> tuple[object, ...]:
        """Equal for sources that can share a batch."""
        return self.scales, tuple(k.shape[2] for k, _ in self.kv), tuple(mask.shape[1] for mask in self.masks)

    @property
    def count(self) -> int:
        """Rows of it."""
        return len(self.kv[0][0])

    def rows(self, index: Tensor | Sequence[int]) -> ImageSource:
        """The source of some rows, in the order of `index`."""
        chosen = torch.as_tensor(index, device=self.kv[0][0].device)
        masks = tuple(mask.index_select(0, chosen) for mask in self.masks)
        return ImageSource(_taken(self.kv, chosen), self.scales, masks)

    @staticmethod
    def cat(parts: Sequence[ImageSource]) -> ImageSource:
        """One source of all rows of `parts`, which have one `shape`."""
        masks = tuple(torch.cat(layer) for layer in zip(*(part.masks for part in parts), strict=True))
        return ImageSource(_joined([part.kv for part in parts]), parts[0].scales, masks)


@dataclass(frozen=True)
class Context:
    """Built once for a text by `UNet2DCondition.context`; `kv` follows the order of the cross-attention layers."""

    kv: tuple[KV, ...]
    images: tuple[ImageSource, ...] = ()
    merging: Merging | None = None
    """How self-attention sees the tokens of the picture; None: each."""

    def tensors(self) -> list[Tensor]:
        """All of its numbers, in an order that contexts of one `shape` have in common."""
        parts = [self.kv, *(image.kv for image in self.images)]
        masks = [mask for image in self.images for mask in image.masks]
        return [tensor for part in parts for layer in part for tensor in layer] + masks

    def cloned(self) -> Context:
        """The same numbers in storage of its own."""
        images = tuple(
            replace(image, kv=_cloned(image.kv), masks=tuple(mask.clone() for mask in image.masks))
            for image in self.images
        )
        return replace(self, kv=_cloned(self.kv), images=images)

    @property
    def shape(self) -> tuple[object, ...]:
        """Equal for contexts that can share a batch: the keys of the text, the images' scales, keys and masks, and how
        tokens are merged."""
        keys = tuple(k.shape[2] for k, _ in self.kv[:1])  # none where a UNet reads no text
        return (keys, self.merging, *(image.shape for image in self.images))

    def over(self, height: int, width: int) -> Context:
        """The same for latents of that size."""
        return self if self.merging is None else replace(self, merging=self.merging.over(height, width))

    def rows(self, index: Tensor | Sequence[int]) -> Context:
        """The context of some rows, in the order of `index`; a row may be taken several times."""
        chosen = torch.as_tensor(index, device=self.kv[0][0].device if self.kv else None)
        images = tuple(image.rows(chosen) for image in self.images)
        return replace(self, kv=_taken(self.kv, chosen), images=images)

    @staticmethod
    def cat(parts: Sequence[Context]) -> Context:
        """One context of all rows of `parts`. Raises ValueError when they differ in `shape`."""
        first = parts[0]
        if any(part.shape != first.shape for part in parts):
            raise ValueError("contexts of different lengths, image prompts, scales or merging cannot share a batch")
        images = tuple(ImageSource.cat([part.images[i] for part in parts]) for i in range(len(first.images)))
        return replace(first, kv=_joined([part.kv for part in parts]), images=images)


def _cloned(kv: tuple[KV, ...]) -> tuple[KV, ...]:
    return tuple((k.clone(), v.clone()) for k, v in kv)


def _taken(kv: tuple[KV, ...], rows: Tensor) -> tuple[KV, ...]:
    return tuple((k.index_select(0, rows), v.index_select(0, rows)) for k, v in kv)


def _joined(kvs: list[tuple[KV, ...]]) -> tuple[KV, ...]:
    return tuple(
        (torch.cat([k for k, _ in layer]), torch.cat([v for _, v in layer])) for layer in zip(*kvs, strict=True)
    )
