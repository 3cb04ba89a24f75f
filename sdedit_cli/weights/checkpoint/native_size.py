"""The size that a small model was trained at: in the index of a folder, or in the metadata of a single file of ours."""

from __future__ import annotations

from pathlib import Path

from ...configs.base import read_json
from ..formats.open import open_weights
from .index import INDEX

INDEX_KEY = "_native_size"  # other programs ignore what begins so
METADATA_KEY = "sdedit.native_size"


def native_size(path: Path) -> int | None:
    """Pixels on a side; None when the model does not say, as all but small ones."""
    if path.is_dir():
        said: object = read_json(path / INDEX).get(INDEX_KEY) if (path / INDEX).is_file() else None
    else:
        # A pickle has no metadata, and reading one takes a while.
        told = open_weights(path).metadata.get(METADATA_KEY, "") if path.suffix == ".safetensors" else ""
        said = int(told) if told.isascii() and told.isdecimal() and len(told) < 6 else None
    return said if type(said) is int and 0 < said < 1 << 16 else None
