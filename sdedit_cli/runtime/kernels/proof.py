"""Operations held against their plain twins before a network computes with them.

A kernel is compiled on the user's machine by whatever Triton and driver are there: one that fails, or computes
something else, must cost its speed and never a picture.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import torch
from torch import Tensor

from ...nn import ops as plain
from ...nn.ops import Ops
from . import put_into

_SEED = 0
# Of the largest number of a result: two units in the last place of a precision, or a sum in another order.
_BOUNDS = {torch.float32: 1e-4, torch.float16: 4e-3, torch.bfloat16: 3.2e-2}


@cache
def fault_of_kernels(device: torch.device, dtype: torch.dtype) -> str | None:
    """Why networks should do without kernels on this device; None where all have the numbers of their twins."""
    ops = Ops()
    try:
        put_into(ops)
    except Exception as problem:
        return str(problem) or type(problem).__name__
    return fault(ops, device, dtype)


@torch.no_grad()
def fault(ops: Ops, device: torch.device, dtype: torch.dtype) -> str | None:
    """The first operation that fails, or is further from its twin than rounding, in words; None where there is none."""
    for name, arguments in _cases(device, dtype):
        expected = getattr(plain, name)(*map(_wide, arguments))
        try:
            got = getattr(ops, name)(*map(_copied, arguments))
        except Exception as problem:
            return f"{name} failed: {(str(problem).strip() or type(problem).__name__).splitlines()[0]}"
        for one, other in zip(_several(got), _several(expected), strict=True):
            if (apart := _apart(one, other)) <= _BOUNDS.get(dtype, 0.0):
                continue
            return f"{name} in {str(dtype).removeprefix('torch.')} is {apart:.1e} from what it should be"
    return None


def _cases(device: torch.device, dtype: torch.dtype) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Every operation that has a kernel, with arguments: norms in one piece and in several, odd sizes."""
    generator = torch.Generator().manual_seed(_SEED)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(device, dtype)

    for batch, channels, side, groups in ((2, 48, 5, 4), (1, 24, 64, 2)):
        x, skip = (drawn(batch, channels, side, side).contiguous(memory_format=torch.channels_last) for _ in range(2))
        weight, bias, shift, shifts = drawn(channels), drawn(channels), drawn(channels), drawn(batch, channels)
        for name in ("group_norm", "group_norm_silu"):
            yield name, (x, groups, weight, bias, 1e-5, (shift, shifts))
        yield "residual", (x, skip, (shift,))
    x, h, weight, bias = drawn(2, 7, 40), drawn(2, 7, 40), drawn(40), drawn(40)
    yield "layer_norm", (x, weight, bias, 1e-5)
    yield "add_layer_norm", (h, x, weight, bias, 1e-5)
    yield "geglu", (drawn(2, 7, 80),)


def _wide(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(_wide(one) for one in value)  # pyright: ignore[reportUnknownVariableType] -- what shifts are
    return value.float() if isinstance(value, Tensor) else value


def _copied(value: Any) -> Any:
    """Operations may write over what they are given."""
    return value.clone(memory_format=torch.preserve_format) if isinstance(value, Tensor) else value


def _several(result: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return result if isinstance(result, tuple) else (result,)


def _apart(got: Tensor, expected: Tensor) -> float:
    """The largest difference as a share of the largest number; not a number where `got` has some."""
    if got.shape != expected.shape:
        return float("inf")
    return float((got.float() - expected).abs().max() / expected.abs().max())
