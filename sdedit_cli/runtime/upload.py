"""Weights to a GPU through pinned memory: while one buffer is on its way, the next is filled.

Pageable memory would have the driver copy each tensor to pinned memory of its own first, and the processor wait for it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

_BUFFER = 32 << 20
_BUFFERS = 3


class Staging:
    """Buffers that tensors pass through on their way to `device`. `pinned`: whether it copies out of them by itself."""

    def __init__(self, device: torch.device, *, size: int = _BUFFER, pinned: bool = True) -> None:
        self.device = device
        self._pinned = pinned
        self._buffers = [torch.empty(size, dtype=torch.uint8, pin_memory=pinned) for _ in range(_BUFFERS)]
        self._left: list[Any] = [None] * _BUFFERS
        """When what is in a buffer has left it."""
        self._turn = 0

    def sent(self, tensor: Tensor) -> Tensor:
        """The tensor on the device, with its shape, strides and precision: some of it may still be on its way there, in
        the order of the device's work. It is dense."""
        target = torch.empty_like(tensor, device=self.device)
        source, there = _bytes(tensor), _bytes(target)
        for begin in range(0, len(source), len(self._buffers[0])):
            self._send(source[begin : begin + len(self._buffers[0])], there[begin : begin + len(self._buffers[0])])
        return target

    def finish(self) -> None:
        """Waits until everything is there."""
        for event in self._left:
            if event is not None:
                event.synchronize()

    def _send(self, part: Tensor, there: Tensor) -> None:
        turn = self._turn = (self._turn + 1) % _BUFFERS
        if self._left[turn] is not None:
            self._left[turn].synchronize()
        buffer = self._buffers[turn][: len(part)]
        buffer.copy_(part)
        there.copy_(buffer, non_blocking=True)
        if self._pinned:
            self._left[turn] = torch.cuda.Event()
            self._left[turn].record()


def upload(network: nn.Module, staging: Staging) -> None:
    """Has all of a network on the device of `staging`, its tensors each in storage of its own there."""

    def sent(tensor: Tensor) -> Tensor:
        if tensor.device.type != "cpu" or not _is_dense(tensor):
            return tensor.to(staging.device)
        return staging.sent(tensor)

    network._apply(sent)  # pyright: ignore[reportPrivateUsage] -- what `to` does, with another way to get there


def _is_dense(tensor: Tensor) -> bool:
    last = tensor.ndim == 4 and tensor.is_contiguous(memory_format=torch.channels_last)
    return tensor.is_contiguous() or last


def _bytes(tensor: Tensor) -> Tensor:
    """The memory of a dense tensor, as it lies."""
    flat = torch.as_strided(tensor.detach(), (tensor.numel(),), (1,))
    return flat.view(torch.uint8)
