"""WeightSource: every tensor of a checkpoint in its source precision, wherever it is kept."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from ...errors import ModelError

IN_MEMORY = Path("weights in memory")  # what messages call a source without a file


class WeightSource(Protocol):
    """Named tensors. Asking for names, shapes and dtypes reads no tensor; `get` copies none where the format allows.

    A tensor from `get` is the source's own: callers read it, and write only to copies (`materialize`, `fill`).
    """

    @property
    def path(self) -> Path: ...

    @property
    def metadata(self) -> Mapping[str, str]: ...

    def names(self) -> list[str]: ...

    def shape(self, name: str) -> tuple[int, ...]: ...

    def dtype(self, name: str) -> torch.dtype: ...

    def get(self, name: str) -> Tensor: ...


class MemorySource:
    """Tensors that are in memory already, and what a reader found beside them (`extras`: global_step and the like)."""

    def __init__(
        self,
        tensors: Mapping[str, Tensor],
        *,
        path: Path = IN_MEMORY,
        metadata: Mapping[str, str] | None = None,
        extras: Mapping[str, object] | None = None,
    ) -> None:
        self._tensors = dict(tensors)
        self.path = path
        self.metadata: Mapping[str, str] = dict(metadata or {})
        self.extras: Mapping[str, object] = dict(extras or {})

    def names(self) -> list[str]:
        return list(self._tensors)

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self.get(name).shape)

    def dtype(self, name: str) -> torch.dtype:
        return self.get(name).dtype

    def get(self, name: str) -> Tensor:
        try:
            return self._tensors[name]
        except KeyError:
            raise ModelError(f"{self.path}: holds no tensor '{name}'") from None
