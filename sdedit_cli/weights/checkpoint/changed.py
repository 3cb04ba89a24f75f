"""Tensors of a checkpoint that something is done to when they are asked for, so that it never lies in memory twice."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from ...errors import ModelError
from ...names.table import Origin
from .checkpoint import EMA_PREFIXES, Checkpoint, Component
from .layouts import Slot
from .renamed import Renamed

Change = Callable[[Tensor], Tensor]
"""What is made, in float32, of a tensor as the checkpoint has it."""


class Changed(Renamed):
    """Renamed tensors, some of them changed and rounded once: to `dtype`, or to what they were."""

    def __init__(self, of: Renamed, changes: Mapping[str, Change], dtype: torch.dtype | None = None) -> None:
        super().__init__(of._source, of.origins)
        self._changes, self._dtype = changes, dtype

    def with_more(self, origins: Mapping[str, Origin]) -> Changed:
        return Changed(super().with_more(origins), self._changes, self._dtype)

    def dtype(self, name: str) -> torch.dtype:
        stored = super().dtype(name)
        return self._dtype if self._dtype and name in self._changes else stored

    def get(self, name: str) -> Tensor:
        tensor = super().get(name)
        if name not in self._changes:
            return tensor
        made = self._changes[name](tensor)
        rounded = made.to(self.dtype(name))
        # Some kinds of float8 have no infinity, and hold their largest number in its place.
        is_float = rounded.dtype.is_floating_point
        if is_float and bool((made.abs() > torch.finfo(rounded.dtype).max).logical_and(made.isfinite()).any()):
            kind = str(rounded.dtype).removeprefix("torch.")
            raise ModelError(f"{self.path}: '{name}' becomes too large for {kind}; use --dtype bf16 or fp32")
        return rounded


def with_changes(
    checkpoint: Checkpoint, changes: Mapping[Slot, Mapping[str, Change]], dtype: torch.dtype | None = None
) -> Checkpoint:
    """The checkpoint with these tensors changed, by component and name, and without a copy that would not be."""
    parts: dict[Slot, Component] = dict(checkpoint.components)
    for slot, own in changes.items():
        parts[slot] = replace(parts[slot], tensors=Changed(parts[slot].tensors, own, dtype))
    kept = tuple(name for name in checkpoint.dropped if not (changes.get("unet") and name.startswith(EMA_PREFIXES[0])))
    return replace(checkpoint, components=parts, dropped=kept)
