"""What the last bits of a network's results depend on besides its weights and what it is given."""

from __future__ import annotations

import hashlib
import os
import platform
from functools import cache
from pathlib import Path

import torch

# What takes instructions away from the kernels, or picks others.
_KERNELS = ("ONEDNN_", "DNNL_", "ATEN_CPU_", "MKL_", "CUBLAS_", "NVIDIA_TF32", "TORCH_ALLOW_TF32")
_TELLING = ("model name", "flags", "CPU part", "Features")


def circumstances(device: torch.device, dtype: torch.dtype) -> dict[str, str]:
    """Equal where equal numbers come out of equal ones, bit for bit."""
    chosen = sorted(f"{name}={value}" for name, value in os.environ.items() if name.startswith(_KERNELS))
    own = {"processor": _processor(), "threads": str(torch.get_num_threads())} if device.type == "cpu" else {}
    if device.type == "cuda":
        own = {"processor": torch.cuda.get_device_name(device), "cuda": str(torch.version.cuda)}
    facts = {"torch": str(torch.__version__), "device": device.type, "dtype": str(dtype).removeprefix("torch.")}
    return {**facts, **own, "environment": " ".join(chosen)}


@cache
def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines()
        told = "\n".join(sorted({line for line in lines if line.startswith(_TELLING)}))
    except OSError:
        told = f"{platform.machine()} {platform.processor()}"
    return f"{torch.backends.cpu.get_cpu_capability()} {hashlib.sha256(told.encode()).hexdigest()[:16]}"
