"""Kernels are held against their twins before a network computes with them."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import Tensor

from sdedit_cli.nn import ops as plain
from sdedit_cli.nn.ops import Ops
from sdedit_cli.runtime.kernels import HOMES
from sdedit_cli.runtime.kernels.proof import fault

CPU = torch.device("cpu")
DTYPES = [torch.float32, torch.float16, torch.bfloat16]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_twins_themselves_are_right(dtype: torch.dtype) -> None:
    assert fault(Ops(), CPU, dtype) is None


@pytest.mark.parametrize("name", HOMES)
def test_an_operation_that_is_a_little_off_is_named(name: str) -> None:
    twin = getattr(plain, name)

    def off(*arguments: object) -> Tensor | tuple[Tensor, ...]:
        result = twin(*arguments)
        return tuple(one * 1.01 for one in result) if isinstance(result, tuple) else result * 1.01

    assert str(fault(Ops(**{name: off}), CPU, torch.float32)).startswith(f"{name} in float32 is ")


def test_one_that_fails_or_gives_no_numbers_is_named() -> None:
    def fails(x: Tensor) -> Tensor:
        raise RuntimeError("no kernel image is available\nfor this device")

    assert fault(Ops(geglu=fails), CPU, torch.float32) == "geglu failed: no kernel image is available"
    silent = Ops(geglu=lambda x: torch.full_like(plain.geglu(x), float("nan")))
    assert str(fault(silent, CPU, torch.float16)).startswith("geglu in float16 is nan")

    def half_silent(*arguments: Any) -> tuple[Tensor, Tensor]:
        x, normed = plain.add_layer_norm(*arguments)
        return x, torch.full_like(normed, float("nan"))

    assert str(fault(Ops(add_layer_norm=half_silent), CPU, torch.float16)).startswith(
        "add_layer_norm in float16 is nan"
    )


@pytest.mark.slow
def test_the_kernels_are_right_by_the_interpreter_of_triton() -> None:
    if importlib.util.find_spec("triton") is None:
        pytest.skip("triton is not installed, so there are no kernels")
    program = (
        "import torch; from sdedit_cli.runtime.kernels.proof import fault_of_kernels\n"
        "for dtype in (torch.float32, torch.float16, torch.bfloat16):\n"
        "    print(fault_of_kernels(torch.device('cpu'), dtype))"
    )
    words = [sys.executable, "-c", program]
    done = subprocess.run(words, check=True, env={**os.environ, "TRITON_INTERPRET": "1"}, timeout=300, stdout=-1)
    assert done.stdout.split() == [b"None"] * 3
