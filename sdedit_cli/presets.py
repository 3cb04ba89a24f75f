"""Presets and the user config: TOML files that become layers of an edit.

A preset is a table of options by their names on the command line (`cfg-scale = 4`), with an optional
`description`. The user config holds the same at its top level, and `folders` under `[models]`, `[presets]`, `[loras]`
and `[embeddings]`.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from .configs.base import bounded_text
from .errors import PresetError, did_you_mean
from .options import Layer, fields, layer_of, toml_table

MAX_BYTES = 1_000_000
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


def read_toml(path: Path) -> dict[str, Any]:
    """The table in a TOML file. Raises PresetError when it cannot be read or is not TOML."""
    try:
        text = bounded_text(path, MAX_BYTES, PresetError, "TOML: options, one a line")
    except FileNotFoundError:
        raise PresetError(f"{path}: no such file") from None
    except UnicodeDecodeError:
        raise PresetError(f"{path}: is not a text file in UTF-8; expected TOML") from None
    except (OSError, ValueError) as problem:
        raise PresetError(f"{path}: cannot be read ({getattr(problem, 'strerror', None) or problem})") from None
    return toml_table(text, str(path), PresetError)


def config_path(variables: Mapping[str, str]) -> Path:
    """Where the user's config.toml is looked for: $SDEDIT_CONFIG, or the platform's folder for configs.

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
    if CONFIG_VARIABLE not in variables and not path.is_absolute():
        warnings.warn("no home folder is known: there is no user config and no cache; set HOME", stacklevel=2)
    elif CONFIG_VARIABLE not in variables and not path.is_file():
        pass
    else:
        table = read_toml(path)

    def folders(name: str, variable: str) -> tuple[Path, ...]:
        listed = (expanded(p) for p in variables.get(variable, "").split(os.pathsep) if p)
        return (*listed, *_folders(table.pop(name, {}), name, path))

    models = folders("models", MODELS_VARIABLE)
    adapters = {kind: folders(f"{kind}s", variable) for kind, variable in ADAPTER_VARIABLES.items()}
    presets = _folders(table.pop("presets", {}), "presets", path)
    return UserConfig(layer_of(table, str(path)), models, (*presets, path.parent / "presets"), adapters)


def _folders(table: object, name: str, path: Path) -> tuple[Path, ...]:
    entries = cast("dict[str, object]", table) if isinstance(table, dict) else {"": table}
    stray = next((key for key in entries if key != "folders"), None)
    if stray is not None:
        raise PresetError(f"{path}: [{name}] has '{stray}'; it knows folders = [\"...\"] alone")
    listed = entries.get("folders", [])
    if not isinstance(listed, list) or not all(isinstance(item, str) for item in cast("list[object]", listed)):
        raise PresetError(f"{path}: [{name}] folders is {listed!r}; expected a list of paths")
    # A relative folder counts from the file that names it, wherever the command is run.
    return tuple(path.parent / expanded(item) for item in cast("list[str]", listed))


def shipped_folder() -> Path:
    """The folder of the presets that come with sdedit: in an installation or in a checkout of the source."""
    package = Path(__file__).parent
    installed = package / "assets" / "presets"
    return installed if installed.is_dir() else package.parent / "presets"


def preset_paths(folders: tuple[Path, ...]) -> dict[str, Path]:
    """Every preset by name; those of earlier folders win, the shipped ones come last."""
    found: dict[str, Path] = {}
    for folder in (*folders, shipped_folder()):
        for path in sorted(folder.glob("*.toml")) if folder.is_dir() else ():
            found.setdefault(path.stem, path)
    return found


def load_preset(name: str, folders: tuple[Path, ...] = ()) -> Layer:
    """The layer of a preset, by the path of its file or by name. Raises PresetError."""
    known = preset_paths(folders)
    looks_like_path = name.endswith(".toml") or any(mark and mark in name for mark in (os.sep, os.altsep))
    if name not in known and not looks_like_path:
        hint = did_you_mean(name, list(known)) or f"; there are {', '.join(sorted(known)) or 'none'}"
        raise PresetError(f"no preset is called '{name}'{hint} (a preset's file is named by its path, ending in .toml)")
    path = expanded(name) if looks_like_path else known[name]
    table = read_toml(path)
    description(table, path)
    return layer_of(table, f"preset {path if looks_like_path else name}")


def description(table: dict[str, Any], path: Path) -> str:
    """Takes the description out of a preset's table."""
    text: object = table.pop("description", "")
    if not isinstance(text, str):
        raise PresetError(f"{path}: description is {text!r}; expected text")
    return text


def json_schema() -> dict[str, Any]:
    """The JSON schema (draft 2020-12) of a preset."""
    notes = {"description": {"type": "string", "description": "What the preset is for."}}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A preset of sdedit",
        "type": "object",
        "additionalProperties": False,
        "properties": notes | {f.key: f.schema() for f in fields()},
    }
