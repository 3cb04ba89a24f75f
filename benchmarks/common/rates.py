"""The rates that this machine reaches: products and convolutions in the shapes of a Stable Diffusion 1.5 step.

A guided step at 512 x 512 has 2 rows of 64 x 64 latents: 8192 tokens of 320 channels, 2048 of 640, 512 and 128 of
1280. The limit of a precision is the best rate of all shapes: no step can be much faster, and a share of it says how
much of a step is spent on anything else. Where half precision is slower than float32, in which it can be multiplied as
well, its limit is float32's. FLOPs count a multiplication and an addition as two.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from .rows import Row

DTYPES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}
# Name: (rows, inner, columns)
PRODUCTS = {
    "product 2048 x 2048 x 2048": (2048, 2048, 2048),
    "product 8192 x 320 x 320": (8192, 320, 320),
    "product 8192 x 320 x 2560": (8192, 320, 2560),
    "product 2048 x 640 x 5120": (2048, 640, 5120),
    "product 512 x 1280 x 10240": (512, 1280, 10240),
}
# Name: (channels in, channels out, side), of two rows and with a kernel of 3 x 3.
CONVOLUTIONS = {
    "convolution 320 to 320 at 64 x 64": (320, 320, 64),
    "convolution 640 to 640 at 32 x 32": (640, 640, 32),
    "convolution 1280 to 1280 at 16 x 16": (1280, 1280, 16),
    "convolution 2560 to 1280 at 8 x 8": (2560, 1280, 8),
}
ROUNDS = 3


def rates(
    device: str = "cpu", dtypes: tuple[str, ...] = ("fp32", "bf16"), seconds: float = 0.05, shrink: int = 1
) -> Iterator[Row]:
    """A row for each shape and precision; a round takes `seconds`, and `shrink` divides the shapes."""
    for dtype in dtypes:
        for name, work, flops in _works(device, dtype, shrink):
            yield Row(name, dtype, tuple(_timed(work, seconds, device) for _ in range(ROUNDS)), "s", flops, dtype)


def limits(rows: list[Row]) -> dict[str, float]:
    """FLOP/s of each precision, by the rows of `rates`: the best of all shapes and rounds. Of half precision at least
    float32's, in which it can be multiplied too."""
    best: dict[str, float] = {}
    for row in rows:
        if row.flops and row.dtype:
            best[row.dtype] = max(best.get(row.dtype, 0.0), row.flops / min(row.values))
    return {dtype: max(rate, best.get("fp32", 0.0)) for dtype, rate in best.items()}


def _works(device: str, dtype: str, shrink: int) -> Iterator[tuple[str, Callable[[], Any], float]]:
    import torch

    how: dict[str, Any] = {"device": device, "dtype": getattr(torch, DTYPES[dtype])}
    for name, sizes in PRODUCTS.items():
        rows, inner, columns = (max(8, size // shrink) for size in sizes)
        x, weight = torch.randn(rows, inner, **how), torch.randn(columns, inner, **how)
        yield name, lambda x=x, weight=weight: torch.nn.functional.linear(x, weight), 2.0 * rows * inner * columns
    for name, sizes in CONVOLUTIONS.items():
        into, out, side = (max(8, size // shrink) for size in sizes)
        x = torch.randn(2, into, side, side, **how).contiguous(memory_format=torch.channels_last)
        layer = torch.nn.Conv2d(into, out, 3, padding=1, bias=False, **how).to(memory_format=torch.channels_last)
        yield name, lambda x=x, layer=layer: layer(x), 2.0 * 2 * side * side * into * out * 9


def _timed(work: Callable[[], Any], seconds: float, device: str) -> float:
    """Seconds of one call, by as many as fit into `seconds`."""
    import torch

    def finish() -> None:
        if device == "cuda":
            torch.cuda.synchronize()

    with torch.inference_mode():
        work()
        finish()
        began, calls = time.perf_counter(), 0
        while not calls or time.perf_counter() - began < seconds:
            for _ in range(1 if device == "cpu" else 20):
                work()
                calls += 1
            finish()
        return (time.perf_counter() - began) / calls
