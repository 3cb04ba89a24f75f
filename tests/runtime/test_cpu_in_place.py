"""Operations that write over what they read."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from sdedit_cli.nn import ops as plain
from sdedit_cli.runtime.cpu import in_place


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_operations_in_place_have_the_bits_of_their_twins(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    for last in (False, True):
        form = torch.channels_last if last else torch.contiguous_format
        x = torch.randn(2, 32, 6, 5).to(dtype).contiguous(memory_format=form)
        y = torch.randn(2, 32, 6, 5).to(dtype)
        w, b = torch.randn(32).to(dtype), torch.randn(32).to(dtype)
        shifts = (torch.randn(32).to(dtype), torch.randn(2, 32).to(dtype))
        t, u = torch.randn(2, 7, 32).to(dtype), torch.randn(2, 7, 32).to(dtype)
        calls: dict[str, tuple[Any, ...]] = {
            "group_norm": (x, 8, w, b, 1e-5, shifts),
            "group_norm_silu": (x, 8, w, b, 1e-5, shifts),
            "residual": (x, y, shifts),
            "add_layer_norm": (t, u, w, b, 1e-5),
            "geglu": (t,),
        }
        assert calls.keys() == in_place.OPERATIONS.keys()
        for name, arguments in calls.items():
            wanted = getattr(plain, name)(*copy.deepcopy(arguments))
            found = in_place.OPERATIONS[name](*copy.deepcopy(arguments))
            for one, other in zip(
                [wanted] if isinstance(wanted, Tensor) else wanted,
                [found] if isinstance(found, Tensor) else found,
                strict=True,
            ):
                # Of float32 with its channels last the plain norm is the less exact one: see test_cpu_norms.
                if last and "norm" in name and dtype == torch.float32:
                    torch.testing.assert_close(one, other)
                else:
                    assert torch.equal(one, other), name
