"""What a single file of ours says in its metadata: facts of an unusual model that neither shapes nor family tell."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...configs.base import object_in
from ...configs.model_block import NOTE as BLOCK
from ...errors import ModelError
from .components import KINDS, Config

PREDICTION = "sdedit.prediction_type"
SCHEDULER = "sdedit.scheduler"
CONFIGS = "sdedit.configs"  # by the component's kind
TOKENIZER = "sdedit.tokenizer"  # names and texts of the files
NATIVE_SIZE = "sdedit.native_size"
_LARGEST_SIDE = 2048  # pictures are brought to it past the limit of pixels that they have themselves
OF_FILES = (TOKENIZER, CONFIGS, SCHEDULER, NATIVE_SIZE, BLOCK)
"""What a folder keeps in files of its own."""


def configs(metadata: Mapping[str, str]) -> dict[str, Config]:
    """The configs by kind. Raises ModelError, without a path, when the note holds none."""
    if CONFIGS not in metadata:
        return {}
    told = object_in(metadata[CONFIGS])
    if told is None or not all(name in KINDS and isinstance(config, dict) for name, config in told.items()):
        raise ModelError(f"its metadata '{CONFIGS}' holds no configs; convert the model again")
    kinds = [kind for kind in KINDS.values() if kind.name in told]
    return {kind.name: kind.config.from_dict(told[kind.name], CONFIGS) for kind in kinds}


def scheduler(metadata: Mapping[str, str], path: Path | None) -> dict[str, Any] | None:
    """The scheduler's config, where it is not the family's. Raises ModelError when the note is no JSON object."""
    if SCHEDULER not in metadata:
        return None
    told = object_in(metadata[SCHEDULER])
    if told is None:
        raise ModelError(f"{path}: its metadata '{SCHEDULER}' is no JSON object; convert the model again")
    return told


def native_size(metadata: Mapping[str, str]) -> int | None:
    """Pixels on a side that a small model was trained at; None where the note is missing or no such number."""
    told = metadata.get(NATIVE_SIZE, "")
    return checked_size(int(told)) if told.isascii() and told.isdecimal() and len(told) < 6 else None


def checked_size(said: object) -> int | None:
    """A native size as a file gives it, None for what cannot be one."""
    return said if type(said) is int and 0 < said <= _LARGEST_SIDE else None
