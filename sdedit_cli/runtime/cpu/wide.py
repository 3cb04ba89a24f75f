"""Half precision on a CPU that does not multiply in it: numbers lie in it, and products are made in float32.

oneDNN would make them at a fraction of float32's rate there, and round at the same places: what a layer gives, and what
it is given, stays in half precision.
"""

from __future__ import annotations

import platform
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from ..dtype import cpu_multiplies_bfloat16

_MACHINES = ("x86_64", "amd64")
_ONEDNN: Any = torch.ops.mkldnn
_PRODUCTS: frozenset[Any] = frozenset({F.linear, F.conv2d, F.scaled_dot_product_attention})


@cache
def is_there() -> bool:
    """Whether torch has oneDNN for this kind of processor. Those of another kind have it by way of a library of their
    own, whose layouts nobody has tried."""
    return torch.backends.mkldnn.is_available() and platform.machine().lower() in _MACHINES


@cache
def multiplies(dtype: torch.dtype) -> bool:
    """Whether oneDNN multiplies in a precision here, if only by way of another."""
    if dtype == torch.bfloat16:
        return is_there() and _ONEDNN._is_mkldnn_bf16_supported()
    if dtype == torch.float16:
        return is_there() and _ONEDNN._is_mkldnn_fp16_supported()
    return is_there() and dtype == torch.float32


@cache
def widens(dtype: torch.dtype) -> bool:
    """Whether products of such numbers are made in float32 here."""
    if not is_there() or dtype not in (torch.bfloat16, torch.float16):
        return False
    return not multiplies(dtype) or (dtype == torch.bfloat16 and not cpu_multiplies_bfloat16())


def wide(x: Tensor) -> Tensor:
    """The numbers as they are multiplied."""
    return x.float() if widens(x.dtype) else x


def wide_products(x: Tensor) -> AbstractContextManager[object]:
    """Within it products are made so of a network whose layers are not ours, and which is given `x`."""
    return _WideProducts() if x.device.type == "cpu" and widens(x.dtype) else nullcontext()


class _WideProducts(TorchFunctionMode):
    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        named = kwargs or {}
        if func not in _PRODUCTS or torch.compiler.is_compiling():
            return func(*args, **named)
        x: Tensor = next(value for value in (*args, *named.values()) if isinstance(value, Tensor))
        named = {name: _wide_if_tensor(value) for name, value in named.items()}
        return func(*map(_wide_if_tensor, args), **named).to(x.dtype)


def _wide_if_tensor(value: Any) -> Any:
    return wide(value) if isinstance(value, Tensor) else value
