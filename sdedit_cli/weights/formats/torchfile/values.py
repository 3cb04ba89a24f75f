"""The inert values that a pickle is read into. Nothing here can be called, imported, or given behaviour by a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod
from typing import cast

import torch

from ....errors import ModelError, shown
from ..shapes import is_possible

SIDES_LIMIT = 64  # numpy's and torch's own limit
NUMPY_DTYPES: dict[str, torch.dtype] = {
    "f2": torch.float16,
    "f4": torch.float32,
    "f8": torch.float64,
    "i1": torch.int8,
    "i2": torch.int16,
    "i4": torch.int32,
    "i8": torch.int64,
    "u1": torch.uint8,
    "u2": torch.uint16,
    "u4": torch.uint32,
    "u8": torch.uint64,
    "b1": torch.bool,
}


@dataclass(frozen=True)
class Global:
    """A name that a file mentions. It stays a name."""

    module: str
    name: str

    @property
    def dotted(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(eq=False, slots=True)
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

    @property
    def nbytes(self) -> int:
        return self.count * self.dtype.itemsize


@dataclass(frozen=True, eq=False)
class TensorRef:
    """A tensor that is not read yet: a strided view of a storage, checked to lie inside it.

    `problem` says why it cannot be read; of a leftover that nobody asks for it is no concern.
    """

    storage: Storage
    dtype: torch.dtype
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    problem: str = ""

    @property
    def nbytes(self) -> int:
        """Bytes that the tensor is said to have: strides of zero make many of one number."""
        return prod(self.shape) * self.dtype.itemsize


@dataclass(eq=False)
class ArrayRef:
    """A numpy array or scalar in the pickle itself: numpy's code of its dtype ('<f4'), shape, memory order, bytes."""

    code: str = "|u1"
    shape: tuple[int, ...] = ()
    fortran: bool = False
    data: bytes = b""
    scalar: bool = False  # a number such as np.float32(1), which is no array without sides
    stands_for: torch.dtype | None = None  # numbers that numpy does not have are kept as wider ones

    @property
    def number(self) -> str:
        """Kind and width of its numbers, without the byte order."""
        return self.code.lstrip("<>|=")

    @property
    def stored(self) -> torch.dtype:
        """What its bytes are; of an array of numbers, which `is_sound` tells."""
        return NUMPY_DTYPES[self.number]

    @property
    def dtype(self) -> torch.dtype:
        """Of the tensor that is made of it."""
        return self.stands_for or self.stored


@dataclass(eq=False)
class NumpyDtype:
    """numpy's dtype while it is being unpickled: the kind and size first, the byte order in a state that follows."""

    text: str


class BadPickle(ModelError):
    """A pickle that no program wrote; the reader adds the file's name."""


def tensor_ref(
    storage: Storage, offset: object, size: object, stride: object, dtype: torch.dtype, problem: str = ""
) -> TensorRef:
    """A checked TensorRef: every element that shape and strides can reach is inside the storage."""
    shape, steps = integers(size), integers(stride)
    if type(offset) is not int or offset < 0 or len(shape) != len(steps) or not is_possible(shape):
        raise BadPickle(f"a tensor of shape {short(size)}, stride {short(stride)}, offset {short(offset)}")
    count = storage.count * storage.dtype.itemsize // dtype.itemsize
    elements = prod(shape)
    reach = 0 if elements == 0 else offset + sum((n - 1) * step for n, step in zip(shape, steps, strict=True)) + 1
    if reach > count or any(n >= 2**62 for n in (*steps, offset)):
        raise BadPickle(f"a tensor of shape {short(shape)} in a storage of {count} elements ('{short(storage.key)}')")
    return TensorRef(storage, dtype, offset if elements else 0, shape, steps, problem)


def integers(value: object) -> tuple[int, ...]:
    """`value` as a tuple of non-negative integers; BadPickle when it is anything else.

    More than a tensor can have are not looked at: a file may hand over one long tuple again and again.
    """
    items = as_sequence(value)
    if items is not None and len(items) > SIDES_LIMIT:
        raise BadPickle(f"{len(items)} numbers where a shape was expected")
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
        parts = [shown(item, 20) if isinstance(item, int) else type(item).__name__ for item in items[:8]]
        return f"({', '.join(parts)}{', ...' if len(items) > 8 else ''})"
    return shown(value, 60) if isinstance(value, (int, float, str)) else type(value).__name__
