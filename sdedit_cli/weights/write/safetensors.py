"""Writing safetensors tensor by tensor, and reading them back to compare: memory holds a slice, never a model.

The header comes first in the format (see `formats.safetensors`), so names, dtypes and shapes are all known before the
first tensor is read.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from ...errors import ModelError, OutputError
from ..formats.open import open_weights
from ..formats.safetensors import TAGS, is_text
from ..formats.source import WeightSource

Progress = Callable[[int], None]  # told how many bytes were just written or compared
SLICE = 1 << 22  # elements that are cast at once
_TAG_OF = {dtype: tag for tag, dtype in TAGS.items()}


@dataclass(frozen=True)
class Item:
    """A tensor to be written: its name in the new file, and where its values are."""

    name: str
    source: WeightSource
    key: str
    dtype: torch.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        return self.source.shape(self.key)

    @property
    def nbytes(self) -> int:
        return prod(self.shape) * self.dtype.itemsize

    @property
    def is_writable(self) -> bool:
        """Whether the format has this dtype, and text may hold the name: JSON allows halves of characters in one."""
        return self.dtype in _TAG_OF and is_text(self.name)

    def slices(self) -> Iterator[tuple[Tensor, Tensor]]:
        """The values, flat, piece by piece: as the source has them, and in the new dtype."""
        flat = self.source.get(self.key).contiguous().view(-1)
        for start in range(0, flat.numel(), SLICE):
            piece = flat[start : start + SLICE]
            yield piece, piece.to(self.dtype)
        self.source.release(self.key)

    def check_range(self, piece: Tensor, cast: Tensor) -> None:
        """Raises ModelError when a number became infinite."""
        if self.dtype != torch.float16 or piece.dtype == torch.float16 or not piece.numel():
            return
        low, high = torch.aminmax(cast)  # one quick pass tells that nothing can be wrong, as nearly always
        if not bool(low.isfinite() & high.isfinite()) and bool((cast.isinf() & piece.isfinite()).any()):
            raise ModelError(
                f"{self.source.path}: '{self.key}' has numbers beyond the range of fp16 (±65504); use --dtype bf16"
            )


def items_of(source: WeightSource, dtype: torch.dtype | None = None) -> tuple[Item, ...]:
    """All tensors of a source, under the names that they have; `dtype` as in `item`."""
    return tuple(item(name, source, name, dtype) for name in source.names())


def item(name: str, source: WeightSource, key: str, dtype: torch.dtype | None) -> Item:
    """`dtype` None keeps the precision; integers are never cast."""
    stored = source.dtype(key)
    return Item(name, source, key, dtype if dtype and stored.is_floating_point else stored)


def write_safetensors(
    file: BinaryIO, items: Sequence[Item], metadata: Mapping[str, str], progress: Progress | None = None
) -> None:
    """Write a whole file of these tensors; what the disk refuses is an OSError."""
    # Wide dtypes first: each tensor then starts at a multiple of its element's size, so that it can be mapped.
    ordered = sorted(items, key=lambda i: -i.dtype.itemsize)
    file.write(_header(ordered, metadata))
    for entry in ordered:
        _write_tensor(file, entry, progress)


def _header(items: Sequence[Item], metadata: Mapping[str, str]) -> bytes:
    # transformers and diffusers refuse files that do not say that their tensors are PyTorch's.
    header: dict[str, object] = {"__metadata__": {"format": "pt", **metadata}}
    start = 0
    for entry in items:
        end = start + entry.nbytes
        header[entry.name] = {"dtype": _TAG_OF[entry.dtype], "shape": list(entry.shape), "data_offsets": [start, end]}
        start = end
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _write_tensor(file: BinaryIO, entry: Item, progress: Progress | None) -> None:
    for original, piece in entry.slices():
        entry.check_range(original, piece)
        file.write(piece.view(torch.uint8).numpy().data)
        if progress:
            progress(piece.nbytes)


def in_shards(items: Sequence[Item], limit: int) -> list[list[Item]]:
    """The items in order, in groups of at most `limit` bytes; a larger item has a group of its own."""
    shards: list[list[Item]] = [[]]
    size = 0
    for entry in items:
        if shards[-1] and size + entry.nbytes > limit:
            shards.append([])
            size = 0
        shards[-1].append(entry)
        size += entry.nbytes
    return shards


def verify(
    path: Path,
    items: Sequence[Item],
    metadata: Mapping[str, str],
    progress: Progress | None = None,
    *,
    told_as: Path | None = None,
) -> None:
    """Read a written file back through our own reader. Raises OutputError when a bit differs from what was meant."""
    written, name = open_weights(path), told_as or path
    if set(written.names()) != {entry.name for entry in items}:
        raise OutputError(f"{name}: the file that was written lacks tensors; is the disk sound? Nothing was kept")
    if not metadata.items() <= written.metadata.items():
        raise OutputError(f"{name}: the file that was written lacks metadata; is the disk sound? Nothing was kept")
    for entry in items:
        back = written.get(entry.name)
        flat, start = back.reshape(-1), 0
        same = tuple(back.shape) == entry.shape and back.dtype == entry.dtype
        for _, piece in entry.slices():
            same = same and _same_bits(piece, flat[start : start + piece.numel()])
            start += piece.numel()
            if progress:
                progress(piece.nbytes)
        if not same:
            raise OutputError(
                f"{name}: '{entry.name}' reads back with other values; is the disk sound? Nothing was kept"
            )
        written.release(entry.name)


def _same_bits(a: Tensor, b: Tensor) -> bool:
    return torch.equal(a.contiguous().view(torch.uint8), b.contiguous().view(torch.uint8))
