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


@cache
def cpu_multiplies_bfloat16() -> bool:
    """Whether this CPU has AMX or AVX512-BF16: on others bfloat16 is slower than float32."""
    for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"):
        asks: Callable[[], bool] | None = getattr(torch.cpu, name, None)
        if asks is not None and asks():
            return True
    try:
        words = set(Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").split())
    except OSError:
        return False
    return bool(words & {"amx_bf16", "avx512_bf16"})
