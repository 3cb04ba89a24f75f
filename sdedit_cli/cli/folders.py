"""Folders of adapters: what `--lora NAME`, words of a prompt and the hashes in a picture find in them.

The folders are those of the options, then of the SDEDIT_* variable, then of the user's config.toml, then the one that
ships with sdedit; of several with one name the first wins, as with models.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import click

from ..disk.hashes import content_hash
from ..errors import ModelError, did_you_mean, shortened
from ..options import Edit
from ..options.adapters import EMBEDDING_SUFFIXES, no_strength
from ..presets import ADAPTER_VARIABLES, UserConfig, expanded, user_config
from .models import PARTS, completed, is_there
from .paths import FilePath

_SHIPPED = Path(__file__).parents[1] / "assets" / "adapters"
_WEIGHTS = (".safetensors", ".bin", ".pt", ".ckpt")
_DEEPEST = 8
_MOST_ENTRIES = 50_000
# What is hashed in search of a picture's adapter, beside files of its name and those whose hash is remembered.
_MOST_BYTES = 16 << 30
_MOST_HEADER = 20_000_000
_SHORTEST_HASH = 8  # web UIs write the first ten digits, older ones eight


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of adapters: its name in options and records, its word for people, and what files of it look like.

    A folder that holds one of `within` (without the suffix) is an adapter itself, by its own name.
    """

    name: str
    word: str
    suffixes: tuple[str, ...]
    within: tuple[str, ...]

    @property
    def option(self) -> str:
        return f"--{self.name}-dir"

    @property
    def parameter(self) -> str:
        return f"{self.name}_dir"


KINDS = {
    kind.name: kind
    for kind in (
        Kind("lora", "LoRA", _WEIGHTS, ("adapter_model", "pytorch_lora_weights")),
        Kind("embedding", "embedding", EMBEDDING_SUFFIXES, ("learned_embeds",)),
    )
}


@dataclass(frozen=True, slots=True)
class Entry:
    """An adapter in a folder: its name (the file's without suffix), where it is, and its path within the folder."""

    name: str
    path: Path
    within: str


class Folders:
    """The adapters of one kind in some folders; these are read once, when something is first asked for."""

    def __init__(self, kind: Kind, folders: Sequence[Path]) -> None:
        self.kind = kind
        self.folders = tuple(folders)
        self._hashes: dict[tuple[Callable[[Path], str], Path], str] = {}

    @cached_property
    def entries(self) -> tuple[tuple[Entry, ...], ...]:
        """What each folder holds, in the order of names. Raises ModelError for one that holds too much to look at."""
        return tuple(tuple(_scanned(self.kind, folder)) for folder in self.folders)

    def names(self) -> list[str]:
        """The names that can be asked for, each once."""
        return list(self._names)

    @cached_property
    def lower_names(self) -> Mapping[str, str]:
        """The names by their small letters."""
        return {name.lower(): name for name in self._names}

    @cached_property
    def _names(self) -> tuple[str, ...]:
        return tuple(sorted({entry.name for folder in self.entries for entry in folder}))

    def find(self, wanted: str) -> Path | None:
        """The adapter of that name, whatever its case: with or without suffix, with or without the folders above it.

        None when there is none. Raises ModelError, naming all, for several in one folder.
        """
        word = wanted.replace("\\", "/").lower()
        for folder in self.entries:
            found = [entry for entry in folder if word in _spellings(entry)]
            # Case counts where names differ in it alone, but not for words, which prompts have in any.
            exact = [entry for entry in found if wanted in (entry.name, entry.path.name, entry.within)]
            if len(found) > 1 and len(exact) == 1 and self.kind.name == "lora":
                return exact[0].path
            if len(found) > 1:
                raise _several(wanted, [entry.path for entry in found])
            if found:
                return found[0].path
        return self._titled(word)

    def _titled(self, word: str) -> Path | None:
        """The adapter that calls itself so, which web UIs write into prompts too."""
        for folder in self.entries:
            found = [entry.path for entry in folder if word and word == _own_name(entry.path).lower()]
            if len(found) > 1:
                raise _several(word, found)
            if found:
                return found[0]
        return None

    def by_hash(self, sha256: str, name: str = "", hash_of: Callable[[Path], str] = content_hash) -> Path | None:
        """The adapter whose hash begins so: looked for among those called `name` first, then among all.

        None when there is none among as many as are worth reading. `hash_of` is for hashes of other programs.
        """
        if len(sha256) < _SHORTEST_HASH:
            return None
        everything = [entry.path for folder in self.entries for entry in folder]
        namesakes = [entry.path for folder in self.entries for entry in folder if entry.name.lower() == name.lower()]
        left = _MOST_BYTES
        for path in dict.fromkeys([*namesakes, *everything]):
            try:
                size = _size(path)
                if size > left and path not in namesakes:
                    continue
                left -= size
                if self._hash(path, hash_of).startswith(sha256.lower()):
                    return path
            except OSError:
                continue  # one that cannot be read is not the one
        return None

    def _hash(self, path: Path, hash_of: Callable[[Path], str]) -> str:
        key = (hash_of, path)
        if key not in self._hashes:
            self._hashes[key] = hash_of(path)
        return self._hashes[key]

    def missing(self, label: str, wanted: str) -> ModelError:
        """The error for a name that is nowhere; `label` is the option."""
        strength = no_strength(wanted) if self.kind.name == "lora" else ""
        what = f"no such path, and no {self.kind.word} of that name{strength}"
        return ModelError(f"{label} {shortened(wanted)}: {what}{self.elsewhere(wanted)}")

    def elsewhere(self, wanted: str) -> str:
        """For an error: what is called nearly as a name that is nowhere, and the folders that users named."""
        named = [folder for folder in self.folders if folder.parent != _SHIPPED]
        places = ", ".join(map(shortened, named)) or "none are set"
        near = did_you_mean(wanted, self.names())
        return f"{near} ({self.kind.word} folders: {places}); name its folder with {self.kind.option}"


def adapter_folders(given: Mapping[str, Any], config: UserConfig) -> dict[str, Folders]:
    """The folders of each kind ('lora', 'embedding'): those `given` on the command line, then the config's, then ours.

    Raises ModelError for a given one that is not there; those of a config may be missing, as on another machine.
    """
    found: dict[str, Folders] = {}
    for name, kind in KINDS.items():
        named = [expanded(folder) for folder in given.get(kind.parameter) or ()]
        for folder in named:
            if not os.path.isdir(folder):
                raise ModelError(f"{kind.option} {shortened(folder)}: no such folder")
        found[name] = Folders(kind, (*named, *config.adapter_folders.get(name, ()), _SHIPPED / name))
    return found


class AdapterPath(FilePath):
    """A path, or the name of an adapter in the folders of this machine: as `--lora NAME` finds it.

    What is neither stays as it was given, for who opens it to refuse.
    """

    def __init__(self, *kinds: str) -> None:
        super().__init__(path_type=Path, readable=False)
        self.kinds = kinds

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        given = Path(str(super().convert(value, param, ctx)))
        return next((found for kind in self.kinds if (found := here(kind, given)) != given), given)


def here(kind: str, given: Path) -> Path:
    """What is at a path, else the adapter of that name, else the path. Raises ModelError for a name of several."""
    if is_there(given, str(given)):
        return given
    return adapter_folders({}, user_config(os.environ))[kind].find(str(given)) or given


def located(edit: Edit, folders: Mapping[str, Folders]) -> Edit:
    """The edit with the path of each adapter that was named by its name, and of each part that was without its ending.

    Raises ModelError for an adapter that is nowhere.
    """
    found: dict[str, Any] = {}
    for kind, where in folders.items():
        files: tuple[Any, ...] = getattr(edit, kind)
        if files:
            found[kind] = tuple(replace(one, path=_path(f"--{kind}", one.path, where)) for one in files)
    for part in PARTS:
        if (named := getattr(edit, part)) and (
            whole := completed(expanded(named), f"--{part.replace('_', '-')} {named}")
        ):
            found[part] = str(whole)
    return replace(edit, **found) if found else edit


def _path(label: str, wanted: str, folders: Folders) -> str:
    if is_there(path := expanded(wanted), f"{label} {wanted}"):
        return str(path)
    found = folders.find(wanted)
    if found is None:
        raise folders.missing(label, wanted)
    return str(found)


def _several(wanted: str, paths: Sequence[Path]) -> ModelError:
    named = " and ".join(shortened(path) for path in paths[:3])
    return ModelError(f"'{wanted}' names {len(paths)} files: {named}; say which by its path, or rename or remove one")


def said_hash(path: Path) -> str:
    """The payload's hash that a .safetensors says it had (kohya's `sshs_model_hash`), which web UIs record even of one
    that was saved anew since; '' where it says none."""
    return _said(path, "sshs_model_hash").lower()


def _own_name(path: Path) -> str:
    """What a .safetensors says that it is called (kohya's `ss_output_name`); '' where it says nothing."""
    return _said(path, "ss_output_name")


def _said(path: Path, key: str) -> str:
    from ..configs.model_block import metadata_of

    return str(metadata_of(path, _MOST_HEADER).get(key, "")) if path.suffix.lower() == ".safetensors" else ""


def _size(path: Path) -> int:
    files = path.iterdir() if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def _spellings(entry: Entry) -> set[str]:
    within = entry.within.lower()
    stem = entry.name.lower()
    return {stem, entry.path.name.lower(), within, f"{within[: len(within) - len(entry.path.name)]}{stem}"}


def _scanned(kind: Kind, folder: Path) -> Iterator[Entry]:
    count = 0
    seen: set[str] = set()
    waiting = [(folder, 0)]
    while waiting:
        place, depth = waiting.pop()
        real = os.path.realpath(place)
        if real in seen:
            continue  # a link back
        seen.add(real)
        for path in _listed(place):
            count += 1
            if count > _MOST_ENTRIES:
                raise ModelError(
                    f"{shortened(folder)}: holds more than {_MOST_ENTRIES:,} files; name a folder of {kind.word}s"
                    f" with {kind.option}, ${ADAPTER_VARIABLES[kind.name]} or config.toml"
                )
            if path.name.startswith("."):
                continue
            within = path.relative_to(folder).as_posix()
            if path.suffix.lower() in kind.suffixes and not path.name.lower().endswith(".preview.png"):
                if os.path.isfile(path):
                    yield Entry(path.stem, path, within)
            elif os.path.isdir(path):
                if _is_adapter(kind, path):
                    yield Entry(path.name, path, within)
                elif depth < _DEEPEST:
                    waiting.append((path, depth + 1))


def _listed(place: Path) -> list[Path]:
    try:
        return sorted(place.iterdir())
    except OSError:
        return []


def _is_adapter(kind: Kind, path: Path) -> bool:
    try:
        return any((path / f"{name}{suffix}").is_file() for name in kind.within for suffix in _WEIGHTS)
    except OSError:
        return False
