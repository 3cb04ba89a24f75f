"""Which checkpoint `-m` means: a path, a name in the model folders, or nothing for the built-in model."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import ModelError, did_you_mean
from ..metadata import BUILT_IN
from ..presets import MODELS_VARIABLE

_FILES = (".safetensors", ".ckpt")
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True, slots=True)
class Model:
    """A checkpoint: its name for people and pictures, and its place (None for the built-in one)."""

    name: str
    path: Path | None


def find_model(wanted: str | None, folders: Sequence[Path]) -> Model:
    """The checkpoint that `wanted` names. Raises ModelError, saying where it was looked for."""
    if wanted is None or wanted == BUILT_IN:
        return Model(BUILT_IN, None)
    path = Path(wanted).expanduser()
    if path.exists():
        return Model(_name(path.absolute()), path)
    known = _known(folders)
    if wanted in known:
        return Model(wanted, known[wanted])
    if _HUB_ID.fullmatch(wanted) and not wanted.startswith("."):
        return Model(wanted, Path(wanted))
    places = ", ".join(str(folder) for folder in folders) or f"none are set; name them in ${MODELS_VARIABLE}"
    near = did_you_mean(wanted, list(known))
    raise ModelError(f"-m {wanted}: no such path, and no model of that name{near} (model folders: {places})")


def model_names(folders: Sequence[Path]) -> list[str]:
    """The names of all checkpoints in the model folders."""
    return sorted(_known(folders))


def _known(folders: Sequence[Path]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for folder in folders:
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            if path.suffix in _FILES or (path / "model_index.json").is_file():
                found.setdefault(_name(path), path)
                found.setdefault(path.name, path)
    return found


def _name(path: Path) -> str:
    return path.stem if path.suffix in _FILES else path.name
