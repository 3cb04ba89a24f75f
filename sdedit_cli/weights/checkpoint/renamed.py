"""What the operations of the name tables do to tensors, and sources that apply them when a tensor is asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...errors import ModelError
from ...names.table import Origin
from ..formats.source import WeightSource

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Operation:
    """A tensor rule: what it makes of shapes (known before any byte is read) and of tensors."""

    shape: Callable[[Sequence[Shape], Origin], Shape]
    apply: Callable[[Sequence[Tensor], Origin], Tensor]


def _part_shape(shapes: Sequence[Shape], origin: Origin) -> Shape:
    rows, *rest = shapes[0]
    return (rows // origin.parts, *rest)


def _part(tensors: Sequence[Tensor], origin: Origin) -> Tensor:
    rows = tensors[0].shape[0] // origin.parts
    return tensors[0][origin.part * rows : (origin.part + 1) * rows]


def _turned(*axes: int) -> Operation:
    """The axes of a convolution in this order, those of a matrix the other way round."""
    return Operation(
        lambda s, _: tuple(s[0][axis] for axis in axes) if len(s[0]) == 4 else s[0][::-1],
        lambda t, _: t[0].permute(axes) if t[0].ndim == 4 else t[0].t(),
    )


OPERATIONS: dict[str, Operation] = {
    "same": Operation(lambda s, _: s[0], lambda t, _: t[0]),
    # Some files have the linear layer's shape already: only trailing ones go.
    "squeeze": Operation(lambda s, _: s[0][:2], lambda t, _: t[0].reshape(t[0].shape[:2])),
    "unsqueeze": Operation(lambda s, _: (*s[0], 1, 1), lambda t, _: t[0][:, :, None, None]),
    "transpose": Operation(lambda s, _: s[0][::-1], lambda t, _: t[0].t()),
    "part": Operation(_part_shape, _part),
    "stack": Operation(lambda s, _: (sum(shape[0] for shape in s), *s[0][1:]), lambda t, _: torch.cat(list(t), dim=0)),
    "unflax": _turned(3, 2, 0, 1),
    "flax": _turned(2, 3, 1, 0),
}


class Renamed(WeightSource):
    """A source under other names: each tensor is a view of its origin's, made when it is asked for.

    Nothing is read or copied in advance; only 'stack' makes a tensor of its own.
    """

    def __init__(self, source: WeightSource, origins: Mapping[str, Origin]) -> None:
        self._source = source
        self.origins = dict(origins)
        self.format, self.path, self.metadata = source.format, source.path, source.metadata
        if source.unreadable:
            known, items = source.unreadable, self.origins.items()
            self.unreadable = {name: known[s] for name, origin in items for s in origin.sources if s in known}

    def with_more(self, origins: Mapping[str, Origin]) -> Renamed:
        """The same source with further names."""
        return Renamed(self._source, {**self.origins, **origins})

    def names(self) -> list[str]:
        return list(self.origins)

    def shape(self, name: str) -> Shape:
        origin = self._origin(name)
        shapes = [self._source.shape(s) for s in origin.sources]
        try:
            return OPERATIONS[origin.operation].shape(shapes, origin)
        except (ValueError, IndexError):
            raise self._misfit(name, shapes) from None

    def dtype(self, name: str) -> torch.dtype:
        return self._source.dtype(self._origin(name).sources[0])

    def get(self, name: str) -> Tensor:
        origin = self._origin(name)
        tensors = [self._source.get(s) for s in origin.sources]
        try:
            return OPERATIONS[origin.operation].apply(tensors, origin)
        except (ValueError, IndexError, RuntimeError):
            raise self._misfit(name, [tuple(t.shape) for t in tensors]) from None

    def _misfit(self, name: str, shapes: Sequence[Shape]) -> ModelError:
        origin = self._origin(name)
        found = ", ".join(f"'{s}' {list(shape)}" for s, shape in zip(origin.sources, shapes, strict=True))
        return ModelError(f"{self.path}: '{name}' cannot be made of {found}; the file is damaged or of another kind")

    def source_names(self) -> set[str]:
        """The names, in the file, of all tensors that are used."""
        return {name for origin in self.origins.values() for name in origin.sources}

    def release(self, name: str) -> None:
        for source_name in self._origin(name).sources:
            self._source.release(source_name)

    def name_in_file(self, name: str) -> str:
        return ", ".join(self._source.name_in_file(s) for s in self._origin(name).sources)

    def _origin(self, name: str) -> Origin:
        if name not in self.origins:
            raise ModelError(f"{self.path}: has no tensor '{name}'")
        return self.origins[name]
