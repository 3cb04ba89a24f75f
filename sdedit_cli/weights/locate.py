"""Which file of a component's folder holds its weights."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from fnmatch import fnmatchcase
from pathlib import Path

from ..errors import ModelError

# The libraries that wrote these folders each had a name for the file; what is inside is found out by opening it.
_TORCH_STEMS = (
    ("diffusion_pytorch_model", "safetensors"),
    ("model", "safetensors"),
    ("diffusion_pytorch_model", "bin"),
    ("pytorch_model", "bin"),
)
_KINDS = {None: ("safetensors", "bin", "msgpack"), True: ("safetensors",), False: ("bin", "msgpack")}
_FLAX_NAMES = ("diffusion_flax_model.msgpack", "flax_model.msgpack")

_SHARD_INDEX = re.compile(
    r"(?P<stem>\w+)\.(?:(?P<a>\w+)\.)?(?P<kind>safetensors|bin)\.(?:(?P<b>\w+)\.)?index\.(?:(?P<c>\w+)\.)?json"
)


def find_weights(folder: Path, variant: str | None = None, use_safetensors: bool | None = None) -> Path:
    """The weights file or shard index of a component's folder.

    Safetensors before .bin before Flax unless `use_safetensors` says which; of a `variant` if there is one, else the
    plain file; without a `variant`, the plain file, else the only variant that is there. Raises ModelError with what
    was looked for.
    """
    if not folder.is_dir():
        raise ModelError(f"{folder}: no such folder; a model in diffusers layout keeps a component there")
    names = [path.name for path in folder.iterdir() if path.is_file()]
    chosen = choose(names, variant, use_safetensors)
    if chosen:
        return folder / chosen
    wanted = " or ".join(f".{kind}" for kind in _KINDS[use_safetensors])
    found = ", ".join(sorted(path.name for path in folder.iterdir())[:6]) or "nothing"
    raise ModelError(f"{folder}: has no weights in {wanted} files (found: {found}); download the model again")


def choose(names: Collection[str], variant: str | None, use_safetensors: bool | None) -> str | None:
    """Which of a folder's files `find_weights` takes."""
    candidates = (name for kind in _KINDS[use_safetensors] for name in _candidates(sorted(names), kind, variant))
    return next((name for name in candidates if name in names), None)


def _candidates(names: Collection[str], kind: str, variant: str | None) -> Iterator[str]:
    if kind == "msgpack":
        yield from _FLAX_NAMES
        return
    stems = [stem for stem, suffix in _TORCH_STEMS if suffix == kind]
    for tag in (variant, None) if variant else (None,):
        for stem in stems:
            yield from file_names(stem, kind, tag)
    if variant is None:
        for stem in stems:
            patterns = (f"{stem}.*.{kind}", f"{stem}.{kind}.index.*.json")
            tagged = [name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns)]
            whole = [name for name in tagged if "-of-" not in name]
            yield from whole if len(whole) == 1 else ()


def shards_of(index: str, names: Collection[str]) -> list[str]:
    """The shards beside the index `index` among `names`, by their names alone; none when it is no index."""
    match = _SHARD_INDEX.fullmatch(index)
    if match is None:
        return []
    variant = match["a"] or match["b"] or match["c"]
    start = f"{match['stem']}.{variant}-" if variant else f"{match['stem']}-"
    return [name for name in names if name.startswith(start) and name.endswith(f".{match['kind']}") and "-of-" in name]


def file_names(stem: str, kind: str, variant: str | None) -> tuple[str, ...]:
    """The names that a file, or its shard index, of this variant may have. Writers of several ages disagree."""
    if variant is None:
        return f"{stem}.{kind}", f"{stem}.{kind}.index.json"
    return (
        f"{stem}.{variant}.{kind}",
        f"{stem}.{kind}.index.{variant}.json",
        f"{stem}.{variant}.{kind}.index.json",
        f"{stem}.{kind}.{variant}.index.json",
    )


def is_variant(path: Path, variant: str) -> bool:
    return f".{variant}." in path.name
