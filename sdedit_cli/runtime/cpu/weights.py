"""The parameters of a layer, one of which may lie as oneDNN's kernels read it.

A weight is there once: whoever looks at the parameter (a save, an adapter, another device) finds it as it was, bit for
bit. One that somebody else holds, or sees through another tensor, is never packed.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, cast

import torch
from torch import Tensor, nn

from . import narrow
from .narrow import Narrow
from .pages import forget
from .wide import widens

Packed = tuple[Tensor | Narrow, ...]
"""A weight, or its pieces along the first axis."""

_WEIGHT = "weight"
_LOCK = threading.RLock()
_C: Any = torch._C  # pyright: ignore[reportPrivateUsage]


def held_by(layer: nn.Module) -> Weights:
    """The parameters of a layer, which holds them so from now on."""
    held: dict[str, Any] = vars(layer)["_parameters"]
    if not isinstance(held, Weights):
        held = vars(layer)["_parameters"] = Weights(held)
    return held


def make_writable(layer: nn.Module) -> None:
    """Has a packed weight as a parameter that holds anything, for somebody who writes all of it: to unpack it first
    takes as long."""
    if isinstance(held := vars(layer)["_parameters"], Weights):
        held.regain(lambda packed: torch.empty(held.shape, dtype=packed[0].dtype))


def has_own_memory(tensor: Tensor) -> bool:
    """Whether no other tensor sees the bytes of this one, and no other process."""
    storage = tensor.untyped_storage()
    if storage.nbytes() != tensor.nbytes or storage.is_shared():
        return False
    return _C._storage_Use_Count(cast(Any, storage)._cdata) == 2  # that of the tensor, and that of the name above


def _plain(packed: Packed) -> Tensor:
    pieces = [piece.to_dense() for piece in packed]
    return pieces[0] if len(pieces) == 1 else torch.cat(pieces)


class Weights(dict[str, Any]):
    """The parameters of a layer, by name. While `packed` is there it is the weight, which nobody has asked for."""

    packed: Packed | None = None
    shape = torch.Size()
    calls = 0

    @property
    def dtype(self) -> torch.dtype | None:
        """The precision of the weight, which stays as it is; None where the layer computes it from something else."""
        with _LOCK:
            weight: Any = self.packed[0] if self.packed else super().get(_WEIGHT)
            return None if weight is None else weight.dtype

    def pack(self, make: Callable[[Tensor], Packed], patience: int) -> Packed | None:
        """The packed weight, made at the call after `patience` of them; None before, and where it has to stay plain."""
        if (packed := self.packed) is not None:
            return packed
        self.calls += 1
        if self.calls <= patience:
            return None
        with _LOCK:
            weight: Tensor | None = super().__getitem__(_WEIGHT)
            super().__setitem__(_WEIGHT, None)
            try:
                # Nobody can come by it now. Who has it already is counted: this name, and the count's argument.
                if weight is not None and sys.getrefcount(weight) <= 2 and _is_alone(weight):
                    self.packed, self.shape = make(weight.detach()), weight.shape
                    forget(weight)
            finally:
                if self.packed is None:
                    super().__setitem__(_WEIGHT, weight)
            return self.packed

    def regain(self, make: Callable[[Packed], Tensor] = _plain) -> None:
        """Has the weight, which `make` makes of the packed one, as a parameter again."""
        with _LOCK:
            if self.packed is not None:
                with torch.inference_mode(False):  # or nobody could write into it outside of that
                    plain = make(self.packed).view(self.shape)
                    super().__setitem__(_WEIGHT, nn.Parameter(plain, requires_grad=False))
                self.packed, self.calls = None, 0

    def __getitem__(self, name: str) -> Any:
        if name == _WEIGHT:
            self.regain()
        return super().__getitem__(name)

    def __setitem__(self, name: str, value: Any) -> None:
        if name == _WEIGHT:
            self.packed = None
        super().__setitem__(name, value)

    def __delitem__(self, name: str) -> None:
        self.regain()
        super().__delitem__(name)

    def __iter__(self) -> Iterator[str]:
        self.regain()
        return super().__iter__()

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        # Copies are plain, until their layer computes.
        return dict, (dict(self.items()),)

    def get(self, name: str, default: Any = None) -> Any:
        self.regain()
        return super().get(name, default)

    def pop(self, *arguments: Any) -> Any:
        self.regain()
        return super().pop(*arguments)

    def copy(self) -> dict[str, Any]:
        return dict(self.items())

    def keys(self) -> Any:
        self.regain()
        return super().keys()

    def values(self) -> Any:
        self.regain()
        return super().values()

    def items(self) -> Any:
        self.regain()
        return super().items()


def _is_alone(weight: Tensor) -> bool:
    """Whether a weight can be packed, and no other tensor sees its bytes."""
    return (
        weight.dtype in (torch.float32, torch.bfloat16, torch.float16)
        and (narrow.is_there() or not widens(weight.dtype))
        and weight.device.type == "cpu"
        and weight.is_contiguous()
        and not weight.requires_grad
        and has_own_memory(weight)
    )
