"""WeightSource: every tensor of a checkpoint in its source precision, wherever it is kept."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import torch
from torch import Tensor

from ...errors import ModelError, shown
from .mapped_file import release

IN_MEMORY = Path("weights in memory")  # what messages call a source without a file


class WeightSource(ABC):
    """Named tensors. Asking for names, shapes and dtypes reads no tensor; `get` copies none where the format allows.

    A tensor from `get` is the source's own: callers read it, and write only to copies (`materialize`, `fill`).
    `unreadable` says of tensors that `get` refuses why it does: a leftover that nobody asks for harms nothing.
    `extras` is what lies beside the tensors (global_step and the like), as plain values.
    """

    format: str = "memory"
    """The kind of file, in words for people."""
    path: Path = IN_MEMORY
    metadata: Mapping[str, str] = {}
    unreadable: Mapping[str, str] = {}
    extras: Mapping[str, object] = {}

    @abstractmethod
    def names(self) -> list[str]: ...

    @abstractmethod
    def shape(self, name: str) -> tuple[int, ...]: ...

    @abstractmethod
    def dtype(self, name: str) -> torch.dtype: ...

    @abstractmethod
    def get(self, name: str) -> Tensor: ...

    def release(self, name: str) -> None:
        """Let go of the memory behind a tensor of a mapped file after its values were copied elsewhere."""
        release(self.get(name))

    def name_in_file(self, name: str) -> str:
        """What the file calls a tensor, for messages; several names where it is made of several."""
        return shown(name)


class Entry(Protocol):
    """What a source knows of a tensor before it is read."""

    @property
    def shape(self) -> Sequence[int]: ...
    @property
    def dtype(self) -> torch.dtype: ...


E = TypeVar("E", bound=Entry)


class EntrySource(WeightSource, Generic[E]):
    """A source with an entry for each tensor, by name; what is left to say is how one is read."""

    _entries: Mapping[str, E]

    def names(self) -> list[str]:
        return list(self._entries)

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self._entry(name).shape)

    def dtype(self, name: str) -> torch.dtype:
        return self._entry(name).dtype

    def _entry(self, name: str) -> E:
        try:
            return self._entries[name]
        except KeyError:
            raise ModelError(f"{self.path}: holds no tensor '{shown(name)}'") from None


class MemorySource(EntrySource[Tensor]):
    """Tensors that are in memory already."""

    def __init__(
        self,
        tensors: Mapping[str, Tensor],
        *,
        path: Path = IN_MEMORY,
        extras: Mapping[str, object] | None = None,
        format: str = WeightSource.format,
    ) -> None:
        self._entries = dict(tensors)
        self.path, self.format = path, format
        self.extras = dict(extras or {})

    def get(self, name: str) -> Tensor:
        return self._entry(name)
