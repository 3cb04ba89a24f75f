"""The options of the machine: on what, and in which numbers, is computed."""

from __future__ import annotations

from dataclasses import dataclass

from .declared import declare
from .speed import SpeedOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineOptions(SpeedOptions):
    """Part of `Edit`."""

    attention: str = declare(
        "torch",
        "Attention kernel; the sliced ones need less memory.",
        "Machine",
        choices=("torch", "sliced", "max-sliced", "xformers"),
        pixels=False,
    )
    vae_tiling: bool = declare(False, "Take large pictures through the autoencoder in tiles.", "Machine")
    low_memory: bool = declare(
        False,
        "Need less memory: --vae-tiling, and on a GPU one network at a time, the others in main memory.",
        "Machine",
    )
    backend: str = declare(
        "torch",
        "What computes: PyTorch, OpenVINO (Intel's), the faster of both here, or JAX (TPUs), which cannot do all.",
        "Machine",
        choices=("torch", "openvino", "auto", "jax"),
        pixels=False,
        saved=True,
    )
    dtype: str = declare("auto", "Number format of the model.", "Machine", choices=("auto", "fp32", "fp16", "bf16"))
    device: str = declare(
        "auto",
        "Where to run.",
        "Machine",
        choices=("auto", "cpu", "cuda", "cuda:N", "mps", "xpu", "xpu:N", "npu"),
        pixels=False,
        metavar="DEVICE",
    )
    threads: int | None = declare(
        None,
        "Threads of the CPU to compute on; another number may change the last bits.",
        "Machine",
        low=1,
        high=1024,
        blank="as many as PyTorch takes",
    )

    @property
    def tiles_autoencoder(self) -> bool:
        return self.vae_tiling or self.low_memory
