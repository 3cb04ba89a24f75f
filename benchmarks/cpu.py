"""The works of an edit on the CPU, by every program that is there.

`step`: one of a guided picture (two rows of the UNet), the solver's part included. `encode`, `decode`: the autoencoder.
`picture`: a whole call of the pipeline of so many steps. `step beside a busy core`: while another process wants a core.
`prepared` is what came before the timed calls of a shape, where that is worth telling: what is compiled, packed or
read, and a first call (two of an autoencoder). The neighbour of a busy core came after the programs had started.
Sides are in pixels.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

from .common.children import Server
from .common.flops import counted
from .common.programs import COMPILED, LAST, OPENVINO, ORACLE, OURS_ON_OPENVINO, environment
from .common.rows import OURS, Row
from .common.turns import busy, disturbed, turns, values

ALL, PAIR = (OURS, OURS_ON_OPENVINO, ORACLE, LAST, COMPILED, OPENVINO), (OURS, ORACLE)
FIVE, BOTH = (OURS, OURS_ON_OPENVINO, ORACLE, LAST, OPENVINO), (OURS, OURS_ON_OPENVINO, ORACLE, OPENVINO)


@dataclass(frozen=True)
class Work:
    """`budget`: seconds of all programs together, over which no further round begins."""

    name: str
    side: int
    programs: tuple[str, ...]
    rounds: int = 3
    budget: float = 40
    busy: int = 0
    steps: int = 0

    @property
    def what(self) -> str:
        name = f"{self.name} of {self.steps} steps" if self.steps else self.name
        return f"{name}{' beside a busy core' if self.busy else ''}, {self.side}"


WORKS = {
    "bf16": (
        Work("step", 512, ALL, budget=75),
        Work("decode", 512, FIVE, budget=60),
        Work("encode", 512, PAIR, budget=15),
        Work("step", 256, FIVE, budget=15),
        Work("step", 256, (OURS, ORACLE, OPENVINO), budget=30, busy=1),
        Work("decode", 256, PAIR, budget=10),
        Work("encode", 256, PAIR, budget=5),
        Work("picture", 256, PAIR, budget=15, steps=4),
        Work("picture", 512, PAIR, budget=10, steps=2),
    ),
    "fp32": (
        Work("step", 512, BOTH, budget=60),
        Work("decode", 512, BOTH, budget=60),
        Work("step", 256, PAIR, budget=10),
        Work("decode", 256, PAIR, budget=10),
    ),
}


def options(parser: argparse._ArgumentGroup) -> None:
    parser.add_argument("--only", default="", metavar="REGEX", help="of the works, such as 'step, 512'")


def run(given: argparse.Namespace) -> Iterator[Row]:
    for dtype in given.dtype or WORKS:
        works = [work for work in WORKS[dtype] if re.search(given.only, work.what)]
        with ExitStack() as stack:
            wanted = {name for work in works for name in work.programs if name in given.programs}
            servers = {
                name: stack.enter_context(
                    Server("benchmarks.common.programs:serve", name, str(given.model), dtype, env=environment(name))
                )
                for name in ALL
                if name in wanted
            }
            for work in works:
                yield from _rows(given, work, dtype, {n: s for n, s in servers.items() if n in work.programs})


def _rows(given: argparse.Namespace, work: Work, dtype: str, servers: dict[str, Server]) -> Iterator[Row]:
    side = work.side // 8 if given.quick else work.side
    how: dict[str, Any] = {"work": work.name, "side": side, **({"steps": work.steps} if work.steps else {})}
    print(f"{work.what}, {dtype}", file=sys.stderr)
    rounds = 1 if given.quick else given.rounds or work.rounds
    with busy(work.busy) if work.busy else nullcontext():
        asks = {name: partial(server.ask, **how) for name, server in servers.items()}
        answers = turns(asks, rounds, work.budget * given.budget)
    for name, said in answers.items():
        prepared = max((answer.get("prepared", 0.0) for answer in said), default=0.0)
        also = {**({"prepared s": prepared} if prepared > 1 else {}), **disturbed(said)}
        yield Row(f"{work.what}, {dtype}", name, values(said), "s", _flops(given, work, side), dtype, also)


def _flops(given: argparse.Namespace, work: Work, side: int) -> float:
    if work.name != "picture":
        return counted(given.model, work.name, side)
    parts = {"encode": 1, "step": work.steps, "decode": 1}
    return sum(times * counted(given.model, name, side) for name, times in parts.items())
