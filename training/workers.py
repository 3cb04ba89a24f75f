"""Several training processes that share the work, started by `torchrun`; alone, everything here does nothing.

On CPUs, processes of one thread each lose less time waiting than the threads of one process do.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn


def join() -> None:
    """Meets the other processes, where the launcher's environment says that there are some."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        dist.init_process_group("gloo")


def count() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def average_gradients(parameters: Sequence[nn.Parameter], seconds: float) -> float:
    """Replaces the gradients by their mean over all processes; returns the mean of `seconds`, so that all of them agree
    on when a budget of minutes is spent."""
    if count() == 1:
        return seconds
    gradients = [p.grad for p in parameters if p.grad is not None]
    flat = torch.cat([*(g.flatten().cpu() for g in gradients), torch.tensor([seconds])])
    dist.all_reduce(flat)
    flat /= count()
    start = 0
    for gradient in gradients:
        gradient.copy_(piece(flat, start, gradient))
        start += gradient.numel()
    return float(flat[-1])


def piece(flat: Tensor, start: int, like: Tensor) -> Tensor:
    return flat[start : start + like.numel()].view(like.shape)


@torch.no_grad()
def exchange(parameters: Sequence[nn.Parameter]) -> None:
    """Gives all processes what each one has in its share, which is every `count()`-th parameter from its rank on."""
    for source in range(count() if dist.is_initialized() else 0):
        share = parameters[source :: count()]
        flat = torch.cat([p.flatten().cpu() for p in share])
        dist.broadcast(flat, source)
        start = 0
        for parameter in share if source != rank() else ():
            parameter.copy_(piece(flat, start, parameter))
            start += parameter.numel()
