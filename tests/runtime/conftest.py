"""The precisions that CPUs compute in, some of them by way of float32."""

from __future__ import annotations

import pytest
import torch
from helpers.packing import needs_widening

_WIDENED = pytest.param(torch.float16, marks=needs_widening)


@pytest.fixture(params=[torch.float32, torch.bfloat16, _WIDENED], ids=["float32", "bfloat16", "float16"])
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    return request.param
