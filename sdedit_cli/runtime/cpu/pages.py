"""Memory that is given back to the system before its owner is."""

from __future__ import annotations

import mmap
import sys

from torch import Tensor

from ...nn.pages import advise


def forget(tensor: Tensor) -> None:
    """Gives back the whole pages of a tensor that nothing reads any more: of a mapped file they count as this
    program's for as long as any of the file is in use."""
    if sys.platform.startswith("linux"):  # elsewhere `mmap` may lack the advice
        advise(tensor, mmap.MADV_DONTNEED)
