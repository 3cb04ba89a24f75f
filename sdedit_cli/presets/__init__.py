"""Presets and the user config: TOML files that become layers of an edit.

A preset is a table of options by their names on the command line (`cfg-scale = 4`), with an optional `description`,
the presets that it `extends`, and a table of its own for each command. The user config holds options at its top level,
and `folders` under `[models]`, `[presets]`, `[loras]` and `[embeddings]`.
"""

from .config import (
    ADAPTER_VARIABLES,
    CONFIG_VARIABLE,
    MODELS_VARIABLE,
    UserConfig,
    config_path,
    expanded,
    user_config,
)
from .files import MAX_BYTES, is_path, own_folder, preset_paths, read_toml, shipped_folder
from .preset import COMMANDS, FAST, NOTES, Preset, load_preset
from .text import Entry, preset_text

__all__ = [
    "ADAPTER_VARIABLES",
    "COMMANDS",
    "CONFIG_VARIABLE",
    "FAST",
    "MAX_BYTES",
    "MODELS_VARIABLE",
    "NOTES",
    "Entry",
    "Preset",
    "UserConfig",
    "config_path",
    "expanded",
    "is_path",
    "load_preset",
    "own_folder",
    "preset_paths",
    "preset_text",
    "read_toml",
    "shipped_folder",
    "user_config",
]
