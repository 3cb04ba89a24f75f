"""How many threads the CPU's kernels run on, and what they do while they wait.

The waiting is an affair of the OpenMP library, which reads it once, when torch is imported. Its own default is to
spin for a while: fine on an idle machine, and many times slower where anything else wants the cores.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

import torch

WAIT_VARIABLE = "OMP_WAIT_POLICY"
_SHOWN = (WAIT_VARIABLE, "OMP_NUM_THREADS", "MKL_NUM_THREADS", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")


def use(threads: int | None) -> None:
    """Has the CPU's kernels run on so many threads; None leaves torch's choice."""
    if threads is not None:
        torch.set_num_threads(threads)


def said(variables: Mapping[str, str] = os.environ) -> dict[str, str]:
    """What the environment says of threads, by the names of the variables."""
    return {name: variables[name] for name in _SHOWN if variables.get(name)}
