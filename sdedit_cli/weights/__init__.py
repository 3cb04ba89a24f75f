"""Checkpoints: read what people have without executing what is in it, fill modules, write files."""

from .formats.open import open_weights
from .formats.source import MemorySource, WeightSource
from .hub import resolve
from .load.fill import Report, fill
from .load.materialize import Delta, materialize
from .load.networks import Components, load_component, load_folder

__all__ = [
    "Components",
    "Delta",
    "MemorySource",
    "Report",
    "WeightSource",
    "fill",
    "load_component",
    "load_folder",
    "materialize",
    "open_weights",
    "resolve",
]
