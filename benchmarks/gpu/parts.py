"""The parts of the check: a module with `run(given) -> rows` each, and the seconds that it may take."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from ..common.children import ROOT
from ..common.rows import Row


@dataclass(frozen=True)
class Part:
    name: str
    seconds: int
    needs: tuple[str, ...] = ()
    """Packages without which there is nothing to do."""

    @property
    def module(self) -> ModuleType:
        return importlib.import_module(f"benchmarks.gpu.{self.name}")

    @property
    def about(self) -> str:
        return (self.module.__doc__ or "").strip()


# What is right comes first, then what is fast, then what takes long to prepare; together they fit eight minutes.
PARTS = {
    part.name: part
    for part in (
        Part("kernels", 45, ("triton",)),
        Part("graphs", 45),
        Part("machine", 30),
        Part("steps", 75, ("diffusers",)),
        Part("ablation", 75),
        Part("parity", 75, ("diffusers",)),
        Part("suite", 60, ("pytest", "hypothesis")),
        Part("compiled", 70, ("diffusers", "triton")),
    )
}


def in_a_process(part: Part, words: Sequence[str], seconds: float) -> tuple[list[Row], str]:
    """The rows of a part from a process of its own, and why there are no more of them ('' where all is done)."""
    with tempfile.TemporaryDirectory() as place:
        rows, errors = Path(place) / "rows", Path(place) / "errors"
        with errors.open("w", encoding="utf-8") as stderr:
            process = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.gpu.one_part", part.name, str(rows), *words],
                cwd=ROOT,
                stdout=stderr,
                stderr=stderr,
            )
            try:
                code = process.wait(timeout=seconds)
                why = "" if code == 0 else f"ended with code {code}: {_last_line(errors)}"
            except subprocess.TimeoutExpired:
                why = f"was not done within {seconds:.0f} s"
            finally:
                process.kill()
                process.wait()
        lines = rows.read_text(encoding="utf-8").splitlines() if rows.exists() else []
        return [Row.from_json(json.loads(line)) for line in lines], why


def _last_line(errors: Path) -> str:
    lines = errors.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1].strip() if lines else "it said nothing"
