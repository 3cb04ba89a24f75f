"""Normal draws in the reference's order: one generator for a whole batch, or one a picture.

A CPU generator draws on the CPU and the numbers travel, so that a picture does not depend on the device.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Union

import torch
from torch import Tensor

from ..errors import UsageError

Generators = Union["torch.Generator", Sequence["torch.Generator"], None]


def normal(shape: Sequence[int], generator: Generators, device: torch.device, dtype: torch.dtype) -> Tensor:
    """A standard normal tensor of `shape`; with a list of generators, row b comes from generator b.

    Raises UsageError when the list is not as long as the batch.
    """
    if generator is None:
        return torch.randn(tuple(shape), device=device, dtype=dtype)
    if isinstance(generator, torch.Generator):
        return sent(torch.randn(tuple(shape), generator=generator, device=generator.device, dtype=dtype), device)
    check_count(generator, shape[0])
    row = (1, *shape[1:])
    return torch.cat([normal(row, one, device, dtype) for one in generator])


def sent(x: Tensor, device: torch.device) -> Tensor:
    """`x` on the device. What comes from the CPU goes to a GPU without anybody waiting for it."""
    if device.type != "cuda" or x.is_cuda:
        return x.to(device)
    return x.pin_memory().to(device, non_blocking=True)


def check_count(generator: Generators, rows: int) -> None:
    """Raises UsageError unless a list of generators has one for each of `rows` pictures."""
    if generator is not None and not isinstance(generator, torch.Generator) and len(generator) != rows:
        raise UsageError(f"generator: got {len(generator)} for {rows} pictures; give one a picture, or one for all")


def seeds_of(generator: Generators) -> int | list[int] | None:
    """What generators began with, for solvers that draw by themselves: one number, or one a picture."""
    if generator is None or isinstance(generator, torch.Generator):
        return None if generator is None else generator.initial_seed()
    return [one.initial_seed() for one in generator]
