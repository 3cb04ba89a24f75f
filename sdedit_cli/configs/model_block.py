"""What a model's `model_index.json` says to us alone: the settings that suit it, what it knows, its native size.

    "_sdedit": {"defaults": {"strength": 0.75, "cfg-scale": 5.0}, "knows": "emoji: apple, tree"}, "_native_size": 64

Other programs ignore keys that begin with an underscore.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from ..errors import ModelError, shown
from .base import read_json

FILE = "model_index.json"
KEY = "_sdedit"
STARTER_FOLDER = Path(__file__).parent.parent / "assets" / "starter"
"""The built-in model."""
_MEMBERS = ("defaults", "knows")


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


def read_block(folder: Path) -> ModelBlock:
    """The block of a model folder; empty for a single file, or a folder without index. Raises ModelError."""
    path = folder / FILE
    return block_of(read_json(path), str(path)) if path.is_file() else ModelBlock()
