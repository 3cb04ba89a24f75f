"""The order in which a batch is made: what shares a model, adapters and a shape meets, the longest first."""

from __future__ import annotations

from pathlib import Path

from helpers.cli import photo

from sdedit_cli.batch.request import Model, Request
from sdedit_cli.batch.shapes import gathered
from sdedit_cli.batch.targets import Job, Target
from sdedit_cli.options import Edit


def job(index: int, source: Path, model: str, adapters: str, strength: float) -> Job:
    edit = Edit(prompt=adapters, strength=strength, steps=10, seed=1)
    return Job(Request(edit, Model(model, None)), str(source), index, (Target(1, Path(f"{index}.png")),), "png")


def test_jobs_that_share_the_most_come_together_and_the_longest_first(tmp_path: Path) -> None:
    wide, high = photo(tmp_path / "wide.png", (64, 32)), photo(tmp_path / "high.png", (32, 64))
    jobs = [
        job(1, wide, "a", "x", 0.5),
        job(2, wide, "b", "x", 0.5),
        job(3, high, "a", "x", 0.5),
        job(4, wide, "a", "y", 0.5),
        job(5, wide, "a", "x", 0.9),
        job(6, wide, "a", "x", 0.5),
        job(7, high, "a", "y", 0.5),
        job(8, tmp_path / "gone.png", "a", "y", 0.5),
        job(9, high, "a", "x", 0.9),
    ]

    def order(asked: int | None) -> list[int]:
        found = gathered(jobs, lambda one: (one.request.model, one.request.edit.prompt), 9, asked, 1.0)
        return [one.index for one in found]

    assert order(4) == [5, 1, 6, 9, 3, 4, 7, 8, 2]
    assert order(1) == [1, 5, 6, 3, 9, 4, 7, 8, 2], "one by one they come as they stand in the list"
