"""The inert values that a pickle is read into. Nothing here can be called, imported, or given behaviour by a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod
from typing import cast

import torch

from ..errors import ModelError, shown


@dataclass(frozen=True)
class Global:
    """A name that a file mentions. It stays a name."""

    module: str
    name: str

    @property
    def dotted(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(eq=False)
class Placeholder:
    """What stands for an object of a class that we don't need: its class's name, and what it would have been fed."""

    of: Global
    args: tuple[object, ...] = ()
    state: object = None
    items: list[object] = field(default_factory=list[object])
    entries: dict[object, object] = field(default_factory=dict[object, object])


@dataclass(frozen=True, eq=False)
class Storage:
    """A run of `count` elements that the file keeps under `key`; its place is looked up when tensors are read."""

    key: str
    dtype: torch.dtype
    count: int
    first: int = 0  # element of the storage where this one begins: old files have views of storages


@dataclass(frozen=True, eq=False)
class TensorRef:
    """A tensor that is not read yet: a strided view of a storage, checked to lie inside it."""

    storage: Storage
    dtype: torch.dtype
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


@dataclass(eq=False)
class ArrayRef:
    """A numpy array or scalar in the pickle itself: dtype text such as '<f4', shape, memory order, bytes."""

    dtype: str = "|u1"
    shape: tuple[int, ...] = ()
    fortran: bool = False
    data: bytes = b""


@dataclass(eq=False)
class NumpyDtype:
    """numpy's dtype while it is being unpickled: the kind and size first, the byte order in a state that follows."""

    text: str


class BadPickle(ModelError):
    """A pickle that no program wrote; the reader adds the file's name."""


def tensor_ref(storage: Storage, offset: object, size: object, stride: object, dtype: torch.dtype) -> TensorRef:
    """A checked TensorRef: every element that shape and strides can reach is inside the storage."""
    shape, steps = integers(size), integers(stride)
    if type(offset) is not int or offset < 0 or len(shape) != len(steps) or len(shape) > 32:
        raise BadPickle(f"a tensor of shape {short(size)}, stride {short(stride)}, offset {short(offset)}")
    count = storage.count * storage.dtype.itemsize // dtype.itemsize
    elements = prod(shape)
    reach = 0 if elements == 0 else offset + sum((n - 1) * step for n, step in zip(shape, steps, strict=True)) + 1
    # A stride of zero makes a terabyte of one number, so a view may not have more elements than there are.
    if reach > count or elements > count or any(n >= 2**62 for n in (*shape, *steps, offset)):
        raise BadPickle(f"a tensor of shape {short(shape)} in a storage of {count} elements ('{short(storage.key)}')")
    return TensorRef(storage, dtype, offset if elements else 0, shape, steps)


def integers(value: object) -> tuple[int, ...]:
    """`value` as a tuple of non-negative integers; BadPickle when it is anything else."""
    items = as_sequence(value)
    numbers = tuple(item for item in items or () if type(item) is int and item >= 0)
    if items is None or len(numbers) != len(items):
        raise BadPickle(f"{short(value)} where a shape was expected")
    return numbers


def as_sequence(value: object) -> Sequence[object] | None:
    """`value` if it is a list or a tuple."""
    return cast("Sequence[object]", value) if isinstance(value, (list, tuple)) else None


def as_dict(value: object) -> dict[object, object] | None:
    """`value` if it is a dict."""
    return cast("dict[object, object]", value) if isinstance(value, dict) else None


def short(value: object) -> str:
    """A value in a message: flat and brief, whatever the file put there."""
    items = as_sequence(value)
    if items is not None:
        parts = [str(item) if isinstance(item, int) else type(item).__name__ for item in items[:8]]
        return f"({', '.join(parts)}{', ...' if len(items) > 8 else ''})"
    return shown(value, 60) if isinstance(value, (int, float, str)) else type(value).__name__
