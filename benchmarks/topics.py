"""What can be measured: a name, the module that has `run(given) -> rows`, and whether `make bench` measures it.

A module's docstring says what its rows are; `options(parser)`, where it has one, adds options of its own.
"""

from __future__ import annotations

import importlib
from argparse import Namespace
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from .common.rows import Row


@dataclass(frozen=True)
class Topic:
    """`settled`: options that it has whatever is asked for."""

    name: str
    always: bool = False
    of: str | None = None
    settled: dict[str, Any] = field(default_factory=dict)

    @property
    def module(self) -> ModuleType:
        return importlib.import_module(f"benchmarks.{(self.of or self.name).replace('-', '_')}")

    def run(self, given: Namespace) -> Iterator[Row]:
        return self.module.run(Namespace(**{**vars(given), **self.settled}))

    @property
    def about(self) -> str:
        return (self.module.__doc__ or "").strip()


TOPICS = {
    topic.name: topic
    for topic in (
        Topic("startup", always=True),
        Topic("load", always=True),
        Topic("cpu-bf16", True, of="cpu", settled={"dtype": ["bf16"]}),
        Topic("cpu-fp32", True, of="cpu", settled={"dtype": ["fp32"]}),
        Topic("folder", always=True),
        Topic("growth", always=True),
        Topic("memory", always=True),
        Topic("adapters", always=True),
        Topic("jax-pipeline", always=True),
        Topic("openvino"),
        Topic("threads"),
        Topic("planning"),
        Topic("soak"),
        Topic("batch-shapes"),
        Topic("vae-together"),
        Topic("colour"),
        Topic("seams"),
        Topic("approximate"),
        Topic("jax-original"),
    )
}
