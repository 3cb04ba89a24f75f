"""open_weights: a WeightSource from a file of any known format, told apart by content and never by name."""

from __future__ import annotations

from pathlib import Path

from ..errors import ModelError
from .safetensors_file import SafetensorsFile
from .sharded import ShardedSource
from .source import WeightSource


def open_weights(path: Path | str) -> WeightSource:
    """The tensors of a weights file. Raises ModelError saying what the file is when it is none."""
    path = Path(path)
    if path.name.endswith(".index.json"):
        return ShardedSource(path, open_weights)
    if not path.exists():
        raise ModelError(f"{path}: no such file")
    return SafetensorsFile(path)
