"""How many threads the CPU's kernels run on."""

from __future__ import annotations

import os
from collections.abc import Mapping

import torch

from ..waiting import LOOKS_VARIABLE, WAIT_VARIABLE

_SHOWN = (WAIT_VARIABLE, "OMP_NUM_THREADS", "MKL_NUM_THREADS", LOOKS_VARIABLE, "KMP_BLOCKTIME")


def use(threads: int | None) -> None:
    """Has the CPU's kernels run on so many threads; None leaves torch's choice."""
    if threads is not None:
        torch.set_num_threads(threads)


def said(variables: Mapping[str, str] = os.environ) -> dict[str, str]:
    """What the environment says of threads, by the names of the variables."""
    return {name: variables[name] for name in _SHOWN if variables.get(name)}
