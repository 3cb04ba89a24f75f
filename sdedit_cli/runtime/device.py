"""Which device to compute on."""

from __future__ import annotations

import torch

from ..errors import UsageError

BEST_FIRST = ("cuda", "xpu", "mps", "cpu")


def counts() -> dict[str, int]:
    """How many devices of each kind this machine has, best kind first; the CPU counts as one."""
    return {
        "cuda": torch.cuda.device_count() if torch.cuda.is_available() else 0,
        "xpu": torch.xpu.device_count() if torch.xpu.is_available() else 0,
        "mps": int(torch.backends.mps.is_available()),
        "cpu": 1,
    }


def pick(name: str = "auto") -> torch.device:
    """The device called `name` ('cuda', 'cuda:1', 'mps', 'xpu', 'cpu'); 'auto' is the best that there is.

    Raises UsageError when there is no such device here.
    """
    here = counts()
    if name == "auto":
        return torch.device(next(kind for kind in BEST_FIRST if here[kind]))
    kind, _, index = name.partition(":")
    if kind not in here or (":" in name and not (index.isascii() and index.isdigit())):
        raise UsageError(f"device '{name}' is unknown; expected auto, cpu, cuda, cuda:N, mps, xpu or xpu:N")
    if int(index or 0) >= here[kind]:
        names = [kind if n == 1 else f"{kind}:0..{n - 1}" for kind, n in here.items() if n]
        raise UsageError(f"device '{name}' is not there: this machine has {', '.join(names)}; try --device auto")
    return torch.device(name)
