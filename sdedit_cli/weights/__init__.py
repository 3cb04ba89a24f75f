"""Checkpoints: read what people have without executing what is in it, fill modules, write files."""

from .fill import Report, fill
from .folder import Components, load_component, load_folder
from .materialize import Delta, materialize
from .open import open_weights
from .resolve import resolve
from .source import MemorySource, WeightSource

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
