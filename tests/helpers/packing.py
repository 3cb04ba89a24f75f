"""Tiny networks whose weights are packed, and which layers of them have such."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from helpers.tiny.networks import tiny_unet, tiny_vae
from sdedit_cli.runtime.cpu.weights import Weights
from sdedit_cli.runtime.cpu.wide import multiplies, widens

needs_bf16 = pytest.mark.skipif(
    widens(torch.bfloat16) or not multiplies(torch.bfloat16), reason="this CPU does not multiply in bfloat16"
)
needs_widening = pytest.mark.skipif(not widens(torch.float16), reason="products of float16 are not widened here")


def packed(model: nn.Module) -> list[nn.Module]:
    return [m for m in model.modules() if isinstance(m._parameters, Weights) and m._parameters.packed is not None]


def network(kind: str, dtype: torch.dtype) -> Any:
    torch.manual_seed(0)
    made: Any = tiny_vae() if kind == "vae" else tiny_unet(kind)
    return made.to(dtype).requires_grad_(False)


def run(model: Any, side: int = 16, rows: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(rows, 4, side, side, generator=generator).to(model.dtype)
    if not hasattr(model, "embed_time"):
        return model.decode(x)
    text = torch.randn(rows, 77, model.config.cross_attention_dim, generator=generator).to(model.dtype)
    return model(x, model.embed_time(torch.arange(rows) * 9 + 1, dtype=model.dtype), model.context(text))
