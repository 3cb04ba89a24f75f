"""What a tensor that somebody gives must be, for a network to read it."""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import UsageError

_READ = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def check_tensor(name: str, tensor: Tensor, meaning: str = "floats") -> None:
    """Raises UsageError for a tensor without numbers, for a sparse one, and for other numbers than floats."""
    if tensor.layout != torch.strided:
        layout = str(tensor.layout).removeprefix("torch.")
        raise UsageError(f"{name}: is a tensor of the layout {layout}; expected a dense one, as `.to_dense()` makes it")
    problems = (
        ("is a tensor on the device 'meta', which holds no numbers", tensor.is_meta),
        (f"values are {tensor.dtype}", tensor.dtype not in _READ),
        (f"has shape {tuple(tensor.shape)}, with nothing in it", tensor.numel() == 0),
    )
    for words, applies in problems:
        if applies:
            raise UsageError(f"{name}: {words}; expected {meaning}")
