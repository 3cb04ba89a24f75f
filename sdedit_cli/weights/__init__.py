"""Checkpoints: read what people have without executing what is in it, fill networks, write files.

Names are imported where they are first used (PEP 562): where a model lies is asked before any of it is read.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .checkpoint.checkpoint import Checkpoint as Checkpoint
    from .checkpoint.open import open_checkpoint as open_checkpoint
    from .formats.open import open_weights as open_weights
    from .formats.source import MemorySource as MemorySource
    from .hub import resolve as resolve
    from .load.fill import fill as fill
    from .load.materialize import materialize as materialize
    from .load.networks import Loaded as Loaded
    from .load.networks import load_networks as load_networks

_HOMES = {
    "Checkpoint": "checkpoint.checkpoint",
    "open_checkpoint": "checkpoint.open",
    "open_weights": "formats.open",
    "MemorySource": "formats.source",
    "resolve": "hub",
    "fill": "load.fill",
    "materialize": "load.materialize",
    "Loaded": "load.networks",
    "load_networks": "load.networks",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)
