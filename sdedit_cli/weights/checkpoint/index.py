"""The scheduler of a model folder: what its file says, of the class that the folder's index names."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from ...configs.base import read_json
from ...errors import ModelError

INDEX = "model_index.json"
FILE = Path("scheduler", "scheduler_config.json")


def read_scheduler(folder: Path) -> dict[str, Any]:
    """The scheduler's config. `_class_name` in its file may be an older choice than that of the index.

    Raises ModelError when the file is missing or broken, or when neither names a class.
    """
    config = read_json(folder / FILE)
    index = folder / INDEX
    said: object = read_json(index).get("scheduler") if index.is_file() else None
    parts = cast("list[object]", said) if isinstance(said, list) else []
    if len(parts) == 2 and isinstance(parts[1], str):
        config["_class_name"] = parts[1].removeprefix("Flax")
    if not isinstance(config.get("_class_name"), str):
        raise ModelError(f"{folder / FILE}: has no '_class_name', expected the name of a scheduler")
    return config
