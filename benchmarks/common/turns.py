"""Programs that take turns, so that what else the machine does meets all of them."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from . import others
from .children import Answer

Ask = Callable[[], Answer]


def turns(asks: Mapping[str, Ask], rounds: int, budget: float = float("inf")) -> dict[str, list[Answer]]:
    """The answers of each program, in rounds of all of them; a round that would go over `budget` seconds is left out,
    what was prepared in the first one not counted.

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
                others.patience.wait()
                share = others.watched()
                answers[name].append(ask())
                answers[name][-1]["others"] = share() or 0.0
                told = ", ".join(f"{key} {value:.3g}" for key, value in answers[name][-1].items() if _is_number(value))
                print(f"  {name}: {told}", file=sys.stderr, flush=True)
            except RuntimeError as problem:
                print(f"{name}: {problem}", file=sys.stderr)
                del left[name]
        prepared = sum(said[-1].get("prepared", 0.0) for said in answers.values() if said) if not done else 0.0
        began += prepared
        longest = max(longest, time.monotonic() - started - prepared)
    return {name: said for name, said in answers.items() if said}


def disturbed(answers: list[Answer]) -> dict[str, float | str]:
    """For a row's `also`: the most of the cores that other programs took in a round, where that is to be known."""
    most = max(values(answers, "others"))
    return {"others": f"{most:.0%}"} if most > others.CALM else {}


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float))


def values(answers: list[Answer], name: str = "seconds") -> tuple[float, ...]:
    return tuple(float(answer[name]) for answer in answers)


@contextmanager
def busy(cores: int) -> Iterator[None]:
    """Within it, so many other processes want a core each."""
    started = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(cores)]
    others.alive.update(process.pid for process in started)
    try:
        yield
    finally:
        for process in started:
            process.kill()
            process.wait()
            others.alive.discard(process.pid)


def seconds(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
