"""Checkpoints: read what people have without executing what is in it, fill modules, write files."""

from .fill import Report, fill
from .materialize import Delta, materialize
from .open import open_weights
from .source import MemorySource, WeightSource

__all__ = ["Delta", "MemorySource", "Report", "WeightSource", "fill", "materialize", "open_weights"]
