"""What only a GPU can tell. Without one these skip; `python -m benchmarks.gpu` runs them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.gpu import graphs, kernels
from benchmarks.gpu.checks import is_wrong
from benchmarks.gpu.options import arguments

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here")

GIVEN = arguments().parse_args(["--device", "cuda", "--quick"])


@pytest.mark.parametrize("part", [kernels, graphs], ids=["kernels", "graphs"])
def test_all_of_a_check_is_right(part) -> None:
    if part is kernels:
        pytest.importorskip("triton", reason="triton is not installed: there are no kernels")
    rows = list(part.run(GIVEN))
    assert len(rows) > 5
    assert [(row.what, row.median) for row in rows if is_wrong(row)] == []


def edited(folder: Path, name: str, *more: str) -> np.ndarray:
    source = folder / "in.png"
    Image.linear_gradient("L").resize((64, 64)).convert("RGB").save(source)
    out = folder / f"{name}.png"
    words = ["run", str(source), "-p", "a red apple", "--seed", "1", "--steps", "12", "-o", str(out), *more]
    subprocess.run([sys.executable, "-m", "sdedit_cli", *words], check=True, timeout=120)
    return np.asarray(Image.open(out).convert("RGB")).astype(float)


def test_an_edit_in_half_precision_is_that_of_the_cpu_to_rounding_and_the_same_again(tmp_path: Path) -> None:
    on_gpu = edited(tmp_path, "gpu", "--device", "cuda")
    on_cpu = edited(tmp_path, "cpu", "--device", "cpu", "--dtype", "fp32")
    assert np.abs(on_gpu - on_cpu).mean() <= 2
    assert on_gpu.std() > 1
    assert (tmp_path / "gpu.png").read_bytes() == (
        edited(tmp_path, "gpu2", "--device", "cuda"),
        (tmp_path / "gpu2.png").read_bytes(),
    )[1]
