"""Which layers of a network have packed weights."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sdedit_cli.runtime.cpu.weights import Weights
from sdedit_cli.runtime.cpu.wide import multiplies, widens

needs_bf16 = pytest.mark.skipif(
    widens(torch.bfloat16) or not multiplies(torch.bfloat16), reason="this CPU does not multiply in bfloat16"
)
needs_widening = pytest.mark.skipif(not widens(torch.float16), reason="products of float16 are not widened here")


def packed(model: nn.Module) -> list[nn.Module]:
    return [m for m in model.modules() if isinstance(m._parameters, Weights) and m._parameters.packed is not None]
