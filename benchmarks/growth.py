"""How a step of ours grows with the picture and with the batch, against the operations that are counted.

One call of each shape, in bf16, after one of another shape: `seconds a picture` should stay, and the share of the limit
should not fall. Shapes that would take longer than the topic's budget are left out.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator

from .common.children import Server
from .common.flops import counted
from .common.programs import environment
from .common.rows import OURS, Row

SIDES, BATCHES, BUDGET = (256, 384, 512, 768, 1024), (2, 4, 8, 16), 75.0


def run(given: argparse.Namespace) -> Iterator[Row]:
    unit, dtype = (8, "bf16") if given.quick else (1, "bf16")
    shapes = [*((side // unit, 1) for side in SIDES), *((256 // unit, batch) for batch in BATCHES)]
    began, rate = time.monotonic(), 0.0
    arguments = (OURS, str(given.model), dtype)
    with Server("benchmarks.common.programs:serve", *arguments, env=environment(OURS)) as server:
        for side, batch in shapes:
            flops = counted(given.model, "step", side, batch)
            if rate and time.monotonic() - began + flops / rate > BUDGET * given.budget:
                continue
            taken = server.ask(work="step", side=side, batch=batch)["seconds"]
            rate = flops / taken
            what = f"step of {batch} at {side}" if batch > 1 else f"step at {side}"
            yield Row(
                what, OURS, (taken,), "s", flops, dtype, {"TFLOP": flops / 1e12, "seconds a picture": taken / batch}
            )
