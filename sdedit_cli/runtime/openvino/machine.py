"""What OpenVINO finds here: whether it is installed, its devices, and how programs are compiled for one."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any, cast

import torch

from ...errors import UsageError
from ..dtype import choose
from .shelf import InMemory, Shelf

INSTALL = "pip install 'sdedit-cli[openvino]'"
_HINTS = {torch.float32: "f32", torch.bfloat16: "bf16", torch.float16: "f16"}
_ABLE = {torch.float32: "FP32", torch.bfloat16: "BF16", torch.float16: "FP16"}
# The words of --device, and OpenVINO's for them.
_DEVICES = {"auto": "CPU", "cpu": "CPU", "xpu": "GPU", "npu": "NPU"}


@dataclass(frozen=True)
class Machine:
    """A device by OpenVINO's name, so many threads where it is the CPU, and where converted networks are kept."""

    device: str = "CPU"
    threads: int | None = None
    shelf: Shelf = field(default_factory=InMemory)

    @property
    def name(self) -> str:
        """The device as people and records know it."""
        return f"openvino {self.device.lower()}"

    def dtype(self, name: str) -> torch.dtype:
        """The precision called `name`; 'auto' is on the CPU what torch takes there, elsewhere float16.

        Raises UsageError for one that the device does not compute in.
        """
        dtype = choose("fp16" if name == "auto" and self.device != "CPU" else name)
        able = core().get_property(self.device, "OPTIMIZATION_CAPABILITIES")
        if name != "auto" and _ABLE[dtype] not in able:
            raise UsageError(f"--dtype {name}: OpenVINO does not compute in it on this {self.device}; try --dtype auto")
        return dtype

    def options(self, dtype: torch.dtype) -> dict[str, Any]:
        """How a program in that precision is compiled: for one call at a time, in no other precision."""
        told = {"INFERENCE_PRECISION_HINT": _HINTS[dtype], "PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": "1"}
        if self.device != "CPU":
            return told
        # Threads that are tied to processors wait for whoever else is there; two runs would be tied to the same ones.
        threads = {"INFERENCE_NUM_THREADS": self.threads} if self.threads else {}
        return {**told, **threads, "ENABLE_CPU_PINNING": False}


def is_installed() -> bool:
    return find_spec("openvino") is not None


def check_installed() -> None:
    """Raises UsageError that says what to install."""
    if not is_installed():
        raise UsageError(f"--backend openvino: OpenVINO is not installed; {INSTALL}, or use --backend torch")


def release() -> str:
    """Its version."""
    return version("openvino")


def library() -> Any:
    """The library, whose types are told in part only.

    Where it finds its `openvino_telemetry` it tells its makers over the network of every import and conversion.
    """
    sys.modules.setdefault("openvino_telemetry", cast(Any, None))
    import openvino

    return openvino


@cache
def core() -> Any:
    """What knows the devices."""
    return library().Core()


def devices() -> dict[str, str]:
    """The devices that it finds, with what they call themselves."""
    return {name: str(core().get_property(name, "FULL_DEVICE_NAME")) for name in core().available_devices}


def device_for(name: str) -> str:
    """OpenVINO's name of what --device names: 'auto' and 'cpu' the CPU, 'xpu' and 'xpu:N' an Intel GPU, 'npu' the NPU.

    Raises UsageError when there is no such device here.
    """
    kind, _, index = name.partition(":")
    if kind not in _DEVICES:
        raise UsageError(f"--device {name} is not for --backend openvino; expected auto, cpu, xpu, xpu:N or npu")
    wanted = f"{_DEVICES[kind]}.{index}" if index else _DEVICES[kind]
    here = list(core().available_devices)
    if wanted not in here and f"{wanted}.0" not in here:
        raise UsageError(f"--device {name}: OpenVINO finds {', '.join(here) or 'no device'} here; try --device cpu")
    return wanted
