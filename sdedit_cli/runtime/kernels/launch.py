"""Which tensors a kernel takes, and how one is started."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

DTYPES = (torch.float16, torch.bfloat16, torch.float32)
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
"""Kernels are run by Triton's interpreter, which takes tensors of the CPU: that is how tests see them there."""


def takes(x: Tensor) -> bool:
    """Whether kernels can read `x`, whatever its layout, and nobody wants gradients: kernels have none."""
    return (x.is_cuda or INTERPRETED) and x.dtype in DTYPES and x.numel() > 0 and not torch.is_grad_enabled()


def takes_pictures(*pictures: Tensor) -> bool:
    """Whether kernels can read these [B, C, H, W], which must have their channels last."""
    return all(takes(x) and x.is_contiguous(memory_format=torch.channels_last) for x in pictures)


def start(kernel: Any, grid: Sequence[int], x: Tensor, *arguments: Any, **constants: Any) -> None:
    """Runs a kernel on the device of `x`, its first argument: Triton itself would take the current device."""
    if not x.is_cuda or x.device.index == torch.cuda.current_device():
        kernel[tuple(grid)](x, *arguments, **constants)
        return
    with torch.cuda.device(x.device):
        kernel[tuple(grid)](x, *arguments, **constants)
