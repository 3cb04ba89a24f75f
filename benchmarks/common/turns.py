"""Programs that take turns, so that what else the machine does meets all of them."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from .children import Answer

Ask = Callable[[], Answer]


def turns(asks: Mapping[str, Ask], rounds: int, budget: float = float("inf")) -> dict[str, list[Answer]]:
    """The answers of each program, in rounds of all of them; a round that would go over `budget` seconds is left out.

    A program that fails is told of on stderr, and takes no further part.
    """
    answers: dict[str, list[Answer]] = {name: [] for name in asks}
    left, began, longest = dict(asks), time.monotonic(), 0.0
    for done in range(rounds):
        started = time.monotonic()
        if done and started - began + longest > budget:
            break
        for name, ask in list(left.items()):
            try:
                answers[name].append(ask())
                print(f"  {name}: {answers[name][-1]}", file=sys.stderr, flush=True)
            except RuntimeError as problem:
                print(f"{name}: {problem}", file=sys.stderr)
                del left[name]
        longest = max(longest, time.monotonic() - started) if done else 0.8 * (time.monotonic() - started)
    return {name: said for name, said in answers.items() if said}


def values(answers: list[Answer], name: str = "seconds") -> tuple[float, ...]:
    return tuple(float(answer[name]) for answer in answers)


@contextmanager
def busy(cores: int) -> Iterator[None]:
    """Within it, so many other processes want a core each."""
    import subprocess

    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(cores)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def seconds(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
