"""model_index.json of a model folder, and the scheduler's file beside it: what is there, and meant to be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from ...configs.base import read_json
from ...configs.model_block import FILE, KEY, ModelBlock, block_of
from ...errors import ModelError
from .components import SLOTS, plain_class
from .notes import checked_size

SCHEDULER = Path("scheduler", "scheduler_config.json")
BLOCK = KEY
NATIVE_SIZE = "_native_size"  # other programs ignore what begins so
_REQUIRED = ("unet", "vae", "text_encoder", "scheduler")


@dataclass(frozen=True)
class Index:
    """What a model folder's index says. Without an index, the folders that are there are what is meant.

    `classes` has the class of each part that is meant to be, '' where none is named; `pipeline` is that of the whole.
    """

    classes: Mapping[str, str]
    pipeline: str = ""
    requires_safety_checker: bool = True
    native_size: int | None = None
    block: ModelBlock = field(default_factory=ModelBlock)


def read_index(folder: Path) -> Index:
    """The index of a model folder. Raises ModelError when it is broken, or the folder is none of a model."""
    if not (folder / FILE).is_file():
        found = {path.name: "" for path in folder.iterdir() if path.is_dir()}
        if not found.keys() & {*_REQUIRED, *SLOTS}:
            raise ModelError(
                f"{folder}: has no {FILE}, config.json, or folders {', '.join(_REQUIRED)}; expected a model in "
                "diffusers layout.",
                "If the weights are one file, name the file itself.",
            )
        return Index(found)
    said = read_json(folder / FILE)
    return Index(
        {name: _class(value) for name, value in said.items() if not _is_null(value)},
        pipeline=name if isinstance(name := said.get("_class_name"), str) else "",
        requires_safety_checker=bool(said.get("requires_safety_checker", True)),
        native_size=checked_size(said.get(NATIVE_SIZE)),
        block=block_of(said, str(folder / FILE)),
    )


def has_scheduler(folder: Path) -> bool:
    """Whether a model folder has the scheduler's file."""
    return (folder / SCHEDULER).is_file()


def read_scheduler(folder: Path) -> dict[str, Any]:
    """The scheduler's config. `_class_name` in its file may be an older choice than that of the index.

    Raises ModelError when the file is missing or broken, or when neither names a class.
    """
    config = read_json(folder / SCHEDULER)
    index = folder / FILE
    listed = _class(read_json(index).get("scheduler")) if index.is_file() else ""
    if listed:
        config["_class_name"] = plain_class(listed)
    if not isinstance(config.get("_class_name"), str):
        raise ModelError(f"{folder / SCHEDULER}: has no '_class_name', expected the name of a scheduler")
    return config


def _is_null(value: object) -> bool:
    return isinstance(value, list) and all(item is None for item in cast("list[object]", value))


def _class(value: object) -> str:
    parts = cast("list[object]", value) if isinstance(value, list) else []
    return parts[1] if len(parts) == 2 and isinstance(parts[1], str) else ""
