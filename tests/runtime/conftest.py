"""The precisions that CPUs compute in."""

from __future__ import annotations

import pytest
import torch
from helpers.packing import needs_bf16


@pytest.fixture(params=[torch.float32, pytest.param(torch.bfloat16, marks=needs_bf16)], ids=["float32", "bfloat16"])
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    return request.param
