"""What a model says to us alone: the settings that suit it, what it knows, its native size. In `model_index.json`:

    "_sdedit": {"defaults": {"strength": 0.75, "cfg-scale": 5.0}, "knows": "emoji: apple, tree"}, "_native_size": 64

Other programs ignore keys that begin with an underscore. A single file has the value of `_sdedit` in its metadata.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from ..errors import ModelError, shown
from .base import as_object, in_measure, object_in, read_json

FILE = "model_index.json"
KEY = "_sdedit"
NOTE = "sdedit.model"
"""The key of a single file's metadata."""
STARTER_FOLDER = Path(__file__).parent.parent / "assets" / "starter"
"""The built-in model."""
_MEMBERS = ("defaults", "knows")
_LONGEST_HEADER = 100_000_000  # bytes, of a safetensors file; its reader refuses longer ones


@dataclass(frozen=True)
class ModelBlock:
    """`defaults` are options of an edit by their names on the command line, unread; `knows` is for people."""

    defaults: Mapping[str, object] = field(default_factory=dict[str, object])
    knows: str = ""
    native_size: int | None = None

    def as_json(self) -> dict[str, Any]:
        """The value of KEY; empty when there is nothing to say."""
        return {name: value for name in _MEMBERS if (value := getattr(self, name))}


def block_of(said: Mapping[str, Any], source: str) -> ModelBlock:
    """The block in the content of an index. Raises ModelError, naming `source`, when it is none."""
    block: object = said.get(KEY) or {}
    if not isinstance(block, dict):
        raise ModelError(f"{source}: '{KEY}' is {shown(block)}, expected an object")
    members = cast("dict[str, object]", block)
    defaults, knows = members.get("defaults", {}), members.get("knows", "")
    if not isinstance(defaults, dict) or not isinstance(knows, str):
        raise ModelError(f"{source}: '{KEY}' is {shown(members)}, expected an object 'defaults' and a text 'knows'")
    side: object = said.get("_native_size")
    native_size = side if isinstance(side, int) and not isinstance(side, bool) and side > 0 else None
    return ModelBlock(cast("dict[str, object]", defaults), knows, native_size)


def noted_block(metadata: Mapping[str, object], source: str) -> ModelBlock:
    """The block in the metadata of a single file. Raises ModelError, naming `source`, when it is none."""
    if NOTE not in metadata:
        return ModelBlock()
    try:
        said: object = json.loads(in_measure(str(metadata[NOTE])))
    except (ValueError, RecursionError):
        raise ModelError(f"{source}: its metadata '{NOTE}' is no JSON object; convert the model again") from None
    return block_of({KEY: said}, source)


def read_block(path: Path) -> ModelBlock:
    """The block of a model folder or a safetensors file; empty where there is none. Raises ModelError for a broken one.

    What else may be wrong with the model is for its reader to say.
    """
    if path.is_dir():
        index = path / FILE
        return block_of(read_json(index), str(index)) if index.is_file() else ModelBlock()
    return noted_block(metadata_of(path), str(path))


def metadata_of(path: Path, longest: int = _LONGEST_HEADER) -> Mapping[str, object]:
    """The metadata of a safetensors file; empty for what is none, and for a header of more than `longest` bytes."""
    try:
        if not path.is_file():  # a pipe would be waited for
            return {}
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            header = object_in(file.read(size).decode() if 2 <= size <= longest else "") or {}
    except (OSError, ValueError):
        return {}
    return as_object(header.get("__metadata__"))
