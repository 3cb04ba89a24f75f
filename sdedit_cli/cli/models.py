"""Which checkpoint `-m` means: a path, a name in the model folders, a place on the Hub, or the built-in model."""

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
    """A checkpoint: its name for people and pictures, and its path, or its id or URL on the Hub (the built-in one has
    neither)."""

    name: str
    path: Path | None
    hub: str | None = None

    @property
    def built_in(self) -> bool:
        return self.path is None and self.hub is None

    def fetched(self, download: bool) -> Path | None:
        """The path, from the Hub's cache where it is there, from the network only with `download`.

        Raises ModelError when it can be had from neither.
        """
        if self.hub is None:
            return self.path
        from ..weights.resolve import resolve

        return resolve(self.hub, local_files_only=not download)


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
    named = next((file for end in _FILES if (file := path.with_name(path.name + end)).is_file()), None)
    if named is not None:
        return Model(_name(named), named)
    if "://" in wanted:
        return Model(_name(Path(wanted.rpartition("/")[2])), None, wanted)
    if _HUB_ID.fullmatch(wanted) and not wanted.startswith(".") and path.suffix not in _FILES:
        return Model(wanted, None, wanted)
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
