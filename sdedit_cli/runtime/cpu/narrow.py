"""Packed weights that lie in half precision, and are multiplied in float32.

Half as much memory as their packed float32 would take: its numbers lie in the same order, and are written into a packed
weight that all weights of one layout share when one of them is multiplied. Large weights are cut: that room is to be
small, and what is written into it still in the caches when it is read.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from typing import Any, cast
from weakref import WeakValueDictionary

import torch
from torch import Tensor

from .wide import wide, widens

# What torch's own compiler writes packed weights with; it has no public names.
_ONEDNN: Any = torch.ops.mkldnn
_NAMES = ("data_ptr", "_nbytes", "_get_mkldnn_serialized_md")

LARGEST = 2**20
"""Numbers that a piece is cut to."""
_BLOCK = 48
"""Rows of a piece are a multiple of it: kernels take 8, 16 or 24 at a time, packed weights are filled up to that."""


def is_there() -> bool:
    """Whether this torch says where the numbers of a packed weight lie."""
    return all(hasattr(_ONEDNN, name) for name in _NAMES)


class _Room:
    """A packed float32 weight, for the numbers of whichever is multiplied."""

    def __init__(self, packed: Tensor) -> None:
        self.packed, self.lock = packed, threading.Lock()
        numbers = ctypes.c_float * (_ONEDNN._nbytes(packed) // 4)
        with torch.inference_mode(False):  # or nobody could write into it outside of that
            self.numbers = torch.frombuffer(numbers.from_address(_ONEDNN.data_ptr(packed)), dtype=torch.float32)


_ROOMS: WeakValueDictionary[bytes, _Room] = WeakValueDictionary()
_LOCK = threading.Lock()


class Narrow:
    """A packed float32 weight, kept in the half precision that all of its numbers have."""

    def __init__(self, packed: Tensor, dtype: torch.dtype) -> None:
        self.dtype, self.shape = dtype, packed.shape
        own = _Room(packed)
        self.numbers = own.numbers.to(dtype)
        layout = bytes(_ONEDNN._get_mkldnn_serialized_md(packed).tolist())
        with _LOCK:
            self.room = _ROOMS.setdefault(layout, own)

    def multiplied(self, product: Callable[[Tensor], Tensor]) -> Tensor:
        """The product of the weight, packed in float32. Of one layout there is one at a time."""
        with self.room.lock:
            self.room.numbers.copy_(self.numbers)
            return product(self.room.packed)

    def to_dense(self) -> Tensor:
        """The weight as it was."""
        return self.multiplied(lambda packed: packed.to_dense().to(self.dtype))


def pieces(weight: Tensor) -> tuple[Tensor, ...]:
    """A weight in pieces along its first axis, where it is to be multiplied in another precision."""
    if not widens(weight.dtype) or weight.numel() <= LARGEST:
        return (weight,)
    most = LARGEST * len(weight) // weight.numel()
    return cast("tuple[Tensor, ...]", weight.split(max(1, most // _BLOCK) * _BLOCK))


def narrowed(packed: Tensor, dtype: torch.dtype) -> Tensor | Narrow:
    """A packed weight, kept in `dtype`."""
    return packed if packed.dtype == dtype else Narrow(packed, dtype)


def multiplied(weight: Tensor | Narrow, product: Callable[[Tensor], Tensor]) -> Tensor:
    """The product of a weight, packed or not, in the precision in which it is multiplied."""
    return weight.multiplied(product) if isinstance(weight, Narrow) else product(wide(weight))
