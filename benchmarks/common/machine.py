"""Facts of the machine and of the programs that are compared."""

from __future__ import annotations

import os
import platform
import re
import shutil
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("sdedit-cli", "torch", "diffusers", "transformers", "openvino", "jax", "triton")
# What users may set of it that changes speed.
VARIABLES = (
    "ONEDNN_MAX_CPU_ISA",
    "ATEN_CPU_CAPABILITY",
    "OMP_NUM_THREADS",
    "OMP_WAIT_POLICY",
    "GOMP_SPINCOUNT",
    "CUDA_VISIBLE_DEVICES",
)
# Instructions that matter to products of matrices, by their flags in /proc/cpuinfo, and the name that oneDNN's limit of
# them has.
INSTRUCTIONS = ("amx_bf16", "avx512_fp16", "avx512_bf16", "avx512_vnni", "avx512f", "avx2")


def machine(device: str = "cpu") -> dict[str, str]:
    """What was measured on, as people read it."""
    facts = {"CPU": processor(), "cores": str(os.cpu_count()), "memory": f"{total_memory() / 1e9:.0f} GB"}
    facts |= {"instructions": ", ".join(flags()), "system": f"{platform.system()} {platform.machine()}"}
    if device == "cuda":
        import torch

        facts = {"GPU": torch.cuda.get_device_name(), "CUDA": str(torch.version.cuda), **facts}
    facts |= {"Python": platform.python_version(), **versions()}
    return facts | {name: os.environ[name] for name in VARIABLES if name in os.environ}


def processor() -> str:
    found = re.search(r"^model name\s*:\s*(.+)$", _read("/proc/cpuinfo"), re.MULTILINE)
    return " ".join((found[1] if found else platform.processor() or platform.machine()).split())


def flags() -> list[str]:
    found = re.search(r"^flags\s*:\s*(.+)$", _read("/proc/cpuinfo"), re.MULTILINE)
    have = set(found[1].split()) if found else set[str]()
    return [name for name in INSTRUCTIONS if name in have]


def total_memory() -> int:
    found = re.search(r"^MemTotal:\s*(\d+) kB", _read("/proc/meminfo"), re.MULTILINE)
    return 1024 * int(found[1]) if found else 0


def versions() -> dict[str, str]:
    found: dict[str, str] = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def load_average() -> str:
    return ", ".join(f"{value:.2f}" for value in os.getloadavg()) if hasattr(os, "getloadavg") else "unknown"


def slug(device: str = "cpu") -> str:
    """A name for files of results: the device's, with what its instructions are limited to."""
    if device == "cuda":
        import torch

        name = torch.cuda.get_device_name()
    else:
        name = f"{re.sub(r'[(](R|TM)[)]', '', processor())} {os.cpu_count()} cores"
        name += " " + os.environ.get("ONEDNN_MAX_CPU_ISA", _unlike_most(flags()))
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def _unlike_most(known: list[str]) -> str:
    """What sets a processor apart from those of its name: a unit for matrices, or vectors of half the width."""
    if "amx_bf16" in known:
        return "amx"
    return "avx2" if "avx2" in known and "avx512f" not in known else ""


def has_compiler() -> bool:
    """Whether torch.compile finds a C++ compiler for the CPU."""
    return any(shutil.which(name) for name in (os.environ.get("CXX", "g++"), "clang++"))


def memory(which: str) -> int:
    """Bytes of VmRSS (now) or VmHWM (at most) of this process; 0 where the system does not tell."""
    found = re.search(rf"^{which}:\s*(\d+) kB", _read("/proc/self/status"), re.MULTILINE)
    return 1024 * int(found[1]) if found else 0


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError:
        return ""
