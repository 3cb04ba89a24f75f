"""The rates that the device reaches in products and convolutions of a step's shapes: the limit of all other rows."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from ..common.rates import rates
from ..common.rows import Row


def run(given: argparse.Namespace) -> Iterator[Row]:
    on_gpu = given.device.startswith("cuda")
    how = {"seconds": 0.002, "shrink": 8} if given.quick else {}
    yield from rates("cuda" if on_gpu else "cpu", ("fp16", "fp32") if on_gpu else ("fp32",), **how)
