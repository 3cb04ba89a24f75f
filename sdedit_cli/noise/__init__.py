"""Noise: processes, grids and solvers. Names are loaded on first use, so that `noise.samplers` needs no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .grid import Grid as Grid
    from .process import Process as Process
    from .process import process_of as process_of
    from .samplers import CLASS_NAMES as CLASS_NAMES
    from .samplers import SAMPLERS as SAMPLERS
    from .scheduler import Scheduler as Scheduler
    from .solvers import SOLVERS as SOLVERS

_HOMES = {
    "CLASS_NAMES": "samplers",
    "Grid": "grid",
    "Process": "process",
    "SAMPLERS": "samplers",
    "SOLVERS": "solvers",
    "Scheduler": "scheduler",
    "process_of": "process",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f".{_HOMES[name]}", __name__), name)
