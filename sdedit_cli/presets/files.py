"""Where presets lie, and how their TOML is read."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..configs.base import bounded_text
from ..errors import PresetError
from ..options import toml_table

MAX_BYTES = 1_000_000


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


def own_folder(config: Path) -> Path:
    """The folder of the user's own presets: beside the user config."""
    return config.parent / "presets"


def shipped_folder() -> Path:
    """The folder of the presets that come with sdedit: in an installation or in a checkout of the source."""
    package = Path(__file__).parents[1]
    installed = package / "assets" / "presets"
    return installed if installed.is_dir() else package.parent / "presets"


def preset_paths(folders: Sequence[Path]) -> dict[str, tuple[Path, ...]]:
    """The files of every preset by name: those of earlier folders hide later ones, and the shipped ones come last.

    A file whose name would be taken for a path, such as `a.toml.toml`, is none that has a name.
    """
    found: dict[str, tuple[Path, ...]] = {}
    for folder in dict.fromkeys((*folders, shipped_folder())):
        for path in sorted(folder.glob("*.toml")) if folder.is_dir() else ():
            if not is_path(path.stem):
                found[path.stem] = (*found.get(path.stem, ()), path)
    return found


def is_path(name: str) -> bool:
    """Whether this names a preset's file, rather than a preset by its name."""
    return name.endswith(".toml") or any(mark and mark in name for mark in (os.sep, os.altsep))
