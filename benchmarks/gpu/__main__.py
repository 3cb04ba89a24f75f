"""Checks a machine with a GPU, in eight minutes at most: `python -m benchmarks.gpu`.

Each part runs in a process of its own within its seconds; one that fails, or is not done, is said to be so and stops no
other. Writes JSON and Markdown. Exit code 0 where all parts are done and all is right, else 1.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from ..common import machine
from ..common.rates import limits
from ..common.report import Section, read, table, write
from ..common.rows import Row
from .checks import is_wrong
from .options import arguments
from .parts import PARTS, Part, in_a_process

RESULTS = Path(__file__).parents[1] / "results"


def main(words: Sequence[str] | None = None) -> int:
    given = arguments().parse_args(words)
    words = list(sys.argv[1:] if words is None else words)
    on_gpu = given.device.startswith("cuda")
    if problem := lacking(given):
        print(problem, file=sys.stderr)
        return 1
    if not on_gpu:
        os.environ.setdefault("TRITON_INTERPRET", "1")
    device = "cuda" if on_gpu else "cpu"
    given.save = given.save or RESULTS / f"{machine.slug(device)}{'' if on_gpu else '-gpu-check'}.json"
    began, sections, bad = time.monotonic(), read(given.save), list[str]()
    rates: dict[str, float] = {}
    for name in given.parts or PARTS:
        part, load, started = PARTS[name], machine.load_average(), time.monotonic()
        left = given.seconds - (started - began)
        rows, why = measured(part, words, left)
        rates |= limits(rows) if name == "machine" else {}
        about = part.about + (f"\n\n**Not all is here:** it {why}." if why else "")
        said = shlex.join(["python", "-m", "benchmarks.gpu", *words])
        took = time.monotonic() - started
        facts = machine.machine(device)
        section = Section(f"gpu {name}", about, rows, said, load, took, limits=rates, machine=facts)
        sections[section.topic] = section
        write(sections, given.save)
        bad += [f"{name} {why}"] if why else []
        bad += [f"{name}: {row.what}, {row.program}: {row.median:g}" for row in rows if is_wrong(row)]
        print(f"\n{name}: {took:.0f} s{f', {why}' if why else ''}\n\n{table(rows, rates)}", flush=True)
    print(f"\n{given.save.with_suffix('.md')}: {time.monotonic() - began:.0f} s")
    print("\n".join(["", "What is not right:", *bad]) if bad else "all is right")
    return 1 if bad else 0


def measured(part: Part, words: Sequence[str], left: float) -> tuple[list[Row], str]:
    """The rows of a part, and why there are no more."""
    missing = [name for name in part.needs if importlib.util.find_spec(name) is None]
    if missing:
        return [], f"needs {' and '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} not installed"
    if left < 5:
        return [], "had no time left"
    return in_a_process(part, words, min(part.seconds, left))


def lacking(given: argparse.Namespace) -> str:
    """What speaks against all parts, in words; '' where nothing does."""
    for name in ("torch", "numpy", "PIL", "tokenizers", "safetensors", "platformdirs"):
        if importlib.util.find_spec(name) is None:
            return f"{name} is not installed: install this package with what it needs, and diffusers for the reference"
    import torch

    if given.device.startswith("cuda") and not torch.cuda.is_available():
        built = torch.version.cuda or "none"
        return (
            f"torch {torch.__version__} (built for CUDA {built}) finds no GPU here; on a machine without one try "
            "--device cpu --quick"
        )
    return ""


if __name__ == "__main__":
    sys.exit(main())
