"""What the project asks of itself, held against the rows of a file of results: ratios of two programs in one run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .programs import OPENVINO, ORACLE
from .rows import OURS, Row


@dataclass(frozen=True)
class Bar:
    """How many times ours another program's median is, in work `what` of a topic, and the least that it should be."""

    topic: str
    what: str
    other: str
    least: float


BARS = (
    Bar("startup", "answer: --help, import of the pipeline", ORACLE, 20),
    Bar("startup", "ready", ORACLE, 2.5),
    Bar("startup", "cold edit, 1 steps", ORACLE, 2.5),
    Bar("cpu-bf16", "step, 512, bf16", OPENVINO, 1.0),
    Bar("cpu-bf16", "step, 512, bf16", ORACLE, 1.4),
    Bar("cpu-bf16", "decode, 512, bf16", OPENVINO, 1.0),
    Bar("cpu-bf16", "step beside a busy core, 256, bf16", ORACLE, 2.0),
    Bar("cpu-fp32", "step, 512, fp32", OPENVINO, 1 / 1.05),
    Bar("folder", "64 pictures of 64 px, bf16", ORACLE, 1.5),
    Bar("memory", "edit, 512, bf16", ORACLE, 1.0),
)


def held(rows: Mapping[str, Sequence[Row]]) -> list[tuple[Bar, float]]:
    """The bars whose rows are there (by topic), with what was measured."""
    found: list[tuple[Bar, float]] = []
    for bar in BARS:
        medians = {row.program: row.median for row in rows.get(bar.topic, ()) if row.what == bar.what}
        if medians.get(OURS) and bar.other in medians:
            found.append((bar, medians[bar.other] / medians[OURS]))
    return found


def lines(rows: Mapping[str, Sequence[Row]]) -> list[str]:
    """A Markdown table of them; none where there is nothing to hold."""
    told = [
        f"| {bar.topic} | {bar.what} | {bar.other} | {bar.least:.2f} x | {measured:.2f} x |"
        for bar, measured in held(rows)
    ]
    heads = ["| topic | what | other program | of ours, at least | measured |", "| --- | --- | --- | --- | --- |"]
    return [*heads, *told] if told else []
