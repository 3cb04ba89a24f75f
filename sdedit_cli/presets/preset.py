"""A preset: what its file says, together with the presets that it extends."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from ..errors import PresetError, did_you_mean, quoted, shortened, shown
from ..options import MAX_ITEMS, Layer, layer_of, merged
from .config import expanded
from .files import is_path, preset_paths, read_toml, shipped_folder

FAST = "fast"
"""The preset of `--fast`."""
COMMANDS = ("run", "batch")
"""The commands that take presets, each with a table of its own in one."""
NOTES = ("description", "extends")
"""What a preset says beside options."""


@dataclass(frozen=True, slots=True)
class Preset:
    """What a preset means: a layer of an edit, and for commands the values of their own options, as TOML has them.

    `own` is the table of the file alone; `hides` the one of that name that comes with sdedit, where this is another;
    `files` are its file and those of all that it begins with, where they really are.
    """

    name: str
    path: Path
    description: str
    extends: tuple[str, ...]
    own: Mapping[str, Any]
    layer: Layer
    commands: Mapping[str, Mapping[str, Any]]
    files: frozenset[Path]
    hides: Path | None = None


def load_preset(name: str, folders: Sequence[Path] = ()) -> Preset:
    """The preset of that name, or in that file. Raises PresetError."""
    return _Loader(folders).load(name)


@dataclass
class _Loader:
    folders: Sequence[Path]
    loaded: dict[Path, Preset] = field(default_factory=dict[Path, Preset])
    """Those read so far: the work is bounded by the number of files, however they extend each other."""

    def load(self, name: str) -> Preset:
        return self._of(name, self._path(name, None, ""), ())

    def _path(self, name: str, extending: Path | None, label: str) -> Path:
        """The file that a name means; in `extends` of a file, another one than that, and paths count from there."""
        if is_path(name):
            return expanded(name) if extending is None else extending.parent / expanded(name)
        known = preset_paths(self.folders)
        paths = known.get(name, ())
        if extending in paths:
            paths = paths[paths.index(extending) + 1 :]
        if paths:
            return paths[0]
        if name in known:
            raise PresetError(f"{label}there is no other preset of that name to extend")
        hint = did_you_mean(name, list(known)) or f"; there are {', '.join(sorted(known)) or 'none'}"
        raise PresetError(
            f"{label}no preset is called '{shown(name)}'{hint} (a preset's file is named by its path, ending in .toml)"
        )

    def _of(self, name: str, path: Path, above: tuple[Path, ...]) -> Preset:
        real = Path(os.path.realpath(path))
        if real in above:
            circle = " extends ".join(shortened(one.stem) for one in (*above[above.index(real) :], real))
            raise PresetError(f"{path}: presets that extend each other in a circle: {circle}; take one of these out")
        if real not in self.loaded:
            self.loaded[real] = self._read(name, path, (*above, real))
        return self.loaded[real]

    def _read(self, name: str, path: Path, above: tuple[Path, ...]) -> Preset:
        # A file is called by its path wherever it is named by one, so that what it says is found.
        source = f"preset {path if is_path(name) else name}"
        table = read_toml(path)
        own = dict(table)
        words = _description(table, path)
        extends = _extended(table, path)
        commands = {command: _table(table.pop(command), command, path) for command in COMMANDS if command in table}
        for key, value in table.items():
            if isinstance(value, dict) and (hint := did_you_mean(key, COMMANDS)):
                raise PresetError(f"{path}: no command that takes presets is called '{shown(key)}'{hint}")
        layer = layer_of(table, source)
        parents: list[Preset] = []
        for parent in extends:
            label = f"{path}: extends '{shown(parent)}': "
            parents.append(self._of(parent, self._path(parent, path, label), above))
        return Preset(
            name,
            path,
            words,
            extends,
            own,
            merged([*(parent.layer for parent in parents), layer], source),
            _together([*(parent.commands for parent in parents), commands]),
            frozenset((above[-1],)).union(*(parent.files for parent in parents)),
            _hidden(path),
        )


def _description(table: dict[str, Any], path: Path) -> str:
    text: object = table.pop("description", "")
    if not isinstance(text, str):
        raise PresetError(f"{path}: description is {quoted(text)}; expected text")
    return text


def _extended(table: dict[str, Any], path: Path) -> tuple[str, ...]:
    said: object = table.pop("extends", [])
    names = cast("list[object]", said if isinstance(said, list) else [said])
    if len(names) > MAX_ITEMS or not all(isinstance(name, str) and name for name in names):
        found = quoted(cast("object", said))
        raise PresetError(f"{path}: extends is {found}; expected the name of a preset, or a list of names")
    return tuple(cast("list[str]", names))


def _table(value: object, command: str, path: Path) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise PresetError(
            f"{path}: {command} is {shown(value)}; expected a table [{command}] of options of that command"
        )
    return cast("dict[str, Any]", value)


def _together(tables: Sequence[Mapping[str, Mapping[str, Any]]]) -> dict[str, dict[str, Any]]:
    """The tables of each command as one, later values winning."""
    found: dict[str, dict[str, Any]] = {}
    for commands in tables:
        for command, values in commands.items():
            spelled = {key.replace("_", "-"): value for key, value in values.items()}
            found[command] = found.get(command, {}) | spelled
    return found


def _hidden(path: Path) -> Path | None:
    shipped = shipped_folder() / path.name
    return shipped if path.parent != shipped.parent and shipped.is_file() else None
