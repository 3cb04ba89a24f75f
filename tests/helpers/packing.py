"""Which layers of a network have packed weights."""

from __future__ import annotations

import pytest
from torch import nn

from sdedit_cli.runtime.cpu.packed import multiplies_bfloat16
from sdedit_cli.runtime.cpu.weights import Weights

needs_bf16 = pytest.mark.skipif(not multiplies_bfloat16(), reason="oneDNN does not multiply in bfloat16 here")


def packed(model: nn.Module) -> list[nn.Module]:
    return [m for m in model.modules() if isinstance(m._parameters, Weights) and m._parameters.packed is not None]
