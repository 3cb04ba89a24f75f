"""What this machine offers: versions, devices, precisions, kernels, caches, model folders."""

from __future__ import annotations

import contextlib
import os
import platform
import stat
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from .. import __version__
from ..disk.hashes import cache_folder
from ..disk.sizes import size_text
from ..presets import ADAPTER_VARIABLES, MODELS_VARIABLE, config_path, user_config
from .models import model_names

_LIBRARIES = ("torch", "numpy", "tokenizers", "transformers", "huggingface_hub", "pillow")
# Importable name -> what it is for.
_OPTIONAL = {
    "xformers": "memory-efficient attention",
    "triton": "compiled kernels",
    "jax": "the JAX pipeline",
    "ray": "clusters",
    "openvino": "--backend openvino",
}


def machine() -> dict[str, Any]:
    """The facts, as JSON values."""
    import torch

    from ..runtime import dtype as dtypes
    from ..runtime import threads
    from ..runtime.device import counts, pick

    device = pick()
    config = user_config(os.environ)
    return {
        "type": "machine",
        "sdedit": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "libraries": {name: _version(name) for name in _LIBRARIES},
        "optional": {name: _version(name) for name in _OPTIONAL if find_spec(name)},
        "devices": {kind: _names(kind, count) for kind, count in counts().items() if count},
        "device": str(device),
        "openvino_devices": _of_openvino(),
        "threads": torch.get_num_threads(),
        "threads_environment": threads.said(),
        "dtypes": {
            "auto": str(dtypes.choose("auto", device)).removeprefix("torch."),
            "bfloat16_on_cpu": dtypes.cpu_multiplies_bfloat16(),
        },
        "attention": _attention(device),
        "config": str(config_path(os.environ)),
        "caches": {name: {"path": str(path), "bytes": _bytes(path)} for name, path in _caches().items()},
        "model_folders": [str(folder) for folder in config.model_folders],
        "models": model_names(config.model_folders),
        "adapter_folders": {kind: list(map(str, folders)) for kind, folders in config.adapter_folders.items()},
    }


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _names(kind: str, count: int) -> list[str]:
    import torch

    if kind == "cuda":
        found: list[Any] = [torch.cuda.get_device_properties(i) for i in range(count)]
        return [f"{p.name}, {p.total_memory / 1e9:.0f} GB" for p in found]
    return [platform.processor() or platform.machine()] if kind == "cpu" else [kind] * count


def _of_openvino() -> dict[str, str]:
    """What --backend openvino can compute on, by OpenVINO's names."""
    from ..runtime.openvino.machine import devices, is_installed

    return devices() if is_installed() else {}


def _attention(device: Any) -> list[str]:
    """The ways of computing attention that can be chosen here, PyTorch's own first."""
    import torch

    kernels = ["sdpa"]
    if device.type == "cuda":
        backends = {
            "flash": torch.backends.cuda.flash_sdp_enabled,
            "mem_efficient": torch.backends.cuda.mem_efficient_sdp_enabled,
        }
        kernels += [name for name, enabled in backends.items() if enabled()]
    return kernels + (["xformers"] if find_spec("xformers") else [])


def _caches() -> dict[str, Path]:
    home = Path(os.path.expanduser("~"))
    hub = os.environ.get("HF_HUB_CACHE") or Path(os.environ.get("HF_HOME", home / ".cache" / "huggingface")) / "hub"
    own = cache_folder()
    return {**({"sdedit": own} if own else {}), "hub": Path(hub)}


def _bytes(folder: Path) -> int:
    total = 0
    for place, _, names in os.walk(folder):  # passes over what may not be entered
        for name in names:
            with contextlib.suppress(OSError):
                status = os.lstat(os.path.join(place, name))
                total += status.st_size if stat.S_ISREG(status.st_mode) else 0
    return total


def _state(folder: str) -> str:
    """What keeps a model folder from being read, for people; '' when nothing does."""
    try:
        os.listdir(folder)
    except FileNotFoundError:
        return " (not there)"
    except OSError as problem:
        return f" (cannot be read: {problem.strerror})"
    return ""


def machine_rows(facts: dict[str, Any]) -> list[tuple[str, str]]:
    """The facts as a table for people."""
    from ..waiting import is_said

    versions = {"sdedit": facts["sdedit"], "python": facts["python"], **facts["libraries"]}
    optional = [f"{name} {found} ({_OPTIONAL[name]})" for name, found in facts["optional"].items()]
    threads = [f"{facts['threads']} (--threads N)", *map("=".join, facts["threads_environment"].items())]
    if not is_said(facts["threads_environment"]):
        threads.append("waiting, they sleep while other programs compute")
    rows = [
        ("versions", ", ".join(f"{name} {found or 'missing'}" for name, found in versions.items())),
        ("optional", ", ".join(optional) or "none"),
        ("platform", facts["platform"]),
    ]
    rows += [(kind, "\n".join(names)) for kind, names in facts["devices"].items()]
    rows += [
        ("device", facts["device"]),
        ("openvino", "\n".join(f"{name}: {said}" for name, said in facts["openvino_devices"].items()) or "not here"),
        ("threads", "\n".join(threads)),
        ("dtype", f"auto is {facts['dtypes']['auto']}"),
        ("attention", ", ".join(facts["attention"])),
        ("config", facts["config"]),
    ]
    rows += [(f"{name} cache", f"{c['path']} ({size_text(c['bytes'])})") for name, c in facts["caches"].items()]
    rows += [
        ("model folders", _folders(facts["model_folders"], MODELS_VARIABLE)),
        ("models", "\n".join(facts["models"]) or "none but the built-in one"),
    ]
    return rows + [
        (f"{kind} folders", _folders(folders, ADAPTER_VARIABLES[kind]))
        for kind, folders in facts["adapter_folders"].items()
    ]


def _folders(folders: list[str], variable: str) -> str:
    return "\n".join(f"{folder}{_state(folder)}" for folder in folders) or f"none; name them in ${variable}"
