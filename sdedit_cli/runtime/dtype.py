"""Which precision to compute in."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch

from ..errors import UsageError, did_you_mean

DTYPES = {
    "float32": torch.float32,
    "fp32": torch.float32,
    "float16": torch.float16,
    "fp16": torch.float16,
    "half": torch.float16,
    "bfloat16": torch.bfloat16,
    "bf16": torch.bfloat16,
}


def choose(dtype: str = "auto", device: torch.device | str = "cpu") -> torch.dtype:
    """The dtype called `dtype`; 'auto' is float16 on CUDA, bfloat16 on a CPU that multiplies in it, else float32.

    Raises UsageError for an unknown name.
    """
    if dtype == "auto":
        kind = torch.device(device).type
        if kind == "cuda":
            return torch.float16
        return torch.bfloat16 if kind == "cpu" and cpu_multiplies_bfloat16() else torch.float32
    if dtype not in DTYPES:
        hint = did_you_mean(dtype, list(DTYPES))
        raise UsageError(f"dtype '{dtype}' is unknown; expected auto, {', '.join(DTYPES)}{hint}")
    return DTYPES[dtype]


# What multiplies bfloat16, by the flag of the processor, with the name by which torch is asked, where it has one.
_UNITS = {"amx_bf16": "_is_amx_tile_supported", "avx512_bf16": "_is_avx512_bf16_supported"}


def cpu_multiplies_bfloat16() -> bool:
    """Whether this CPU has AMX or AVX512-BF16: on others bfloat16 is slower than float32."""
    return bool(_units())


def cpu_multiplies_bfloat16_in_vectors_alone() -> bool:
    """Whether it has the second without the first, a unit for whole matrices."""
    return _units() == {"avx512_bf16"}


@cache
def _units() -> set[str]:
    asks: dict[str, Callable[[], bool] | None] = {unit: getattr(torch.cpu, name, None) for unit, name in _UNITS.items()}
    found = {unit for unit, ask in asks.items() if ask is not None and ask()}
    if found:
        return found
    try:
        words = set(Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").split())
    except OSError:
        return set()
    return words & set(_UNITS)
