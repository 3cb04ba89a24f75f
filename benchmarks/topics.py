"""What can be measured: a name, the module that has `run(given) -> rows`, and whether `make bench` measures it.

A module's docstring says what its rows are; `options(parser)`, where it has one, adds options of its own.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from types import ModuleType


@dataclass(frozen=True)
class Topic:
    name: str
    always: bool = False

    @property
    def module(self) -> ModuleType:
        return importlib.import_module(f"benchmarks.{self.name.replace('-', '_')}")

    @property
    def about(self) -> str:
        return (self.module.__doc__ or "").strip()


TOPICS = {
    topic.name: topic
    for topic in (
        Topic("startup", always=True),
        Topic("load", always=True),
        Topic("cpu", always=True),
        Topic("folder", always=True),
        Topic("growth", always=True),
        Topic("memory", always=True),
        Topic("adapters", always=True),
        Topic("jax-pipeline", always=True),
        Topic("threads"),
        Topic("planning"),
        Topic("soak"),
        Topic("batch-shapes"),
        Topic("colour"),
        Topic("seams"),
        Topic("jax-original"),
    )
}
