"""A recorder for machines without graphs: it keeps the calls of a work, and makes them again.

Like a graph it holds tensors and not names, and numbers of Python as they were, so that what would be stale in a graph
is stale here. It is for checks, and saves no time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map


@dataclass(frozen=True)
class _Call:
    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    result: Any


class _Listening(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.calls: list[_Call] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.calls.append(_Call(func, args, kwargs or {}, result))
        return result


@dataclass(frozen=True)
class Tape:
    """The calls of one work, and its result among theirs."""

    calls: list[_Call]
    out: Tensor

    def replay(self) -> Tensor:
        """The calls again. Tensors that none of them made are read where they lie."""
        made: dict[int, Any] = {}

        def now(value: Any) -> Any:
            return made.get(id(value), value)

        for call in self.calls:
            again = call.function(*tree_map(now, call.args), **tree_map(now, call.kwargs))
            made.update(zip(map(id, tree_leaves(call.result)), tree_leaves(again), strict=True))
        return made[id(self.out)]


class TapeRecorder:
    """A recorder for the CPU; `recorded` counts the works."""

    kind = "cpu"

    def __init__(self) -> None:
        self.recorded = 0

    def record(self, work: Callable[[], Tensor], device: torch.device) -> Tape:
        with _Listening() as listening:
            out = work()
        self.recorded += 1
        return Tape(listening.calls, out)

    def release(self) -> None:
        """Nothing is shared."""
