"""The user's config.toml: option values, and the folders of models, presets and adapters."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from ..errors import PresetError
from ..options import Layer, layer_of
from .files import own_folder, read_toml

CONFIG_VARIABLE = "SDEDIT_CONFIG"
MODELS_VARIABLE = "SDEDIT_MODELS"
# Kinds of adapters -> where the environment names folders of them; in config.toml it is the same word, [loras].
ADAPTER_VARIABLES = {"lora": "SDEDIT_LORAS", "embedding": "SDEDIT_EMBEDDINGS"}


@dataclass(frozen=True, slots=True)
class UserConfig:
    """What the user's config.toml says: option values, and where to look for models, presets and adapters by name."""

    layer: Layer
    model_folders: tuple[Path, ...] = ()
    preset_folders: tuple[Path, ...] = ()
    adapter_folders: Mapping[str, tuple[Path, ...]] = field(default_factory=dict[str, "tuple[Path, ...]"])


def config_path(variables: Mapping[str, str]) -> Path:
    """Where the user's config.toml is looked for: $SDEDIT_CONFIG (empty counts as not set), or the platform's folder.

    A relative path is that of somebody who has no home folder, and stands for no file.
    """
    if named := variables.get(CONFIG_VARIABLE):
        return expanded(named)
    from platformdirs import user_config_path

    try:
        return user_config_path("sdedit", appauthor=False) / "config.toml"
    except RuntimeError:  # older releases leave the '~' where it is
        return Path("~") / "config.toml"


def expanded(path: str) -> Path:
    """The path with '~' at its start as somebody's home folder; as it is where nobody is known by that name."""
    return Path(os.path.expanduser(path))


def user_config(variables: Mapping[str, str]) -> UserConfig:
    """The user config, with the folders of $SDEDIT_MODELS and its like first. A missing file is an empty config."""
    path = config_path(variables)
    table: dict[str, Any] = {}
    if variables.get(CONFIG_VARIABLE) or (path.is_absolute() and (path.is_file() or path.is_dir())):
        table = read_toml(path)
    elif not path.is_absolute():
        warnings.warn("no home folder is known: there is no user config and no cache; set HOME", stacklevel=2)

    def folders(name: str, variable: str) -> tuple[Path, ...]:
        listed = (expanded(p) for p in variables.get(variable, "").split(os.pathsep) if p)
        return (*listed, *_folders(table.pop(name, {}), name, path))

    models = folders("models", MODELS_VARIABLE)
    adapters = {kind: folders(f"{kind}s", variable) for kind, variable in ADAPTER_VARIABLES.items()}
    presets = _folders(table.pop("presets", {}), "presets", path)
    return UserConfig(layer_of(table, str(path)), models, (*presets, own_folder(path)), adapters)


def _folders(table: object, name: str, path: Path) -> tuple[Path, ...]:
    entries = cast("dict[str, object]", table) if isinstance(table, dict) else {"": table}
    stray = next((key for key in entries if key != "folders"), None)
    if stray is not None:
        raise PresetError(f"{path}: [{name}] has '{stray}'; it knows folders = [\"...\"] alone")
    listed = entries.get("folders", [])
    if not isinstance(listed, list) or not all(
        isinstance(item, str) and item.strip() for item in cast("list[object]", listed)
    ):
        raise PresetError(f"{path}: [{name}] folders is {listed!r}; expected a list of paths")
    # A relative folder counts from the file that names it, wherever the command is run.
    return tuple(path.parent / expanded(item) for item in cast("list[str]", listed))
