"""Which file of a component's folder holds its weights."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from pathlib import Path

from ...errors import ModelError, shown

# The libraries that wrote these folders each had a name for the file; what is inside is found out by opening it.
_TORCH_STEMS = (
    ("diffusion_pytorch_model", "safetensors"),
    ("model", "safetensors"),
    ("diffusion_pytorch_model", "bin"),
    ("pytorch_model", "bin"),
)
_KINDS = {None: ("safetensors", "bin", "msgpack"), True: ("safetensors",), False: ("bin", "msgpack")}
_FLAX_NAMES = ("diffusion_flax_model.msgpack", "flax_model.msgpack")
# Of an index and a whole file side by side, diffusers reads the index and transformers the file.
_INDEX_FIRST = "diffusion_pytorch_model"

_SHARD_INDEX = re.compile(
    r"(?P<stem>\w+)\.(?:(?P<a>\w+)\.)?(?P<kind>safetensors|bin)\.(?:(?P<b>\w+)\.)?index\.(?:(?P<c>\w+)\.)?json"
)


def find_weights(folder: Path, variant: str | None = None, use_safetensors: bool | None = None) -> Path:
    """The weights file or shard index of a component's folder.

    As the libraries that write such folders: of a `variant` if there is one, else the plain file, and either in
    safetensors before .bin before Flax unless `use_safetensors` says which. Where there is neither, the
    only variant. Raises ModelError with what was looked for.
    """
    if not folder.is_dir():
        raise ModelError(f"{folder}: no such folder; a model in diffusers layout keeps a component there")
    names = sorted(path.name for path in folder.iterdir() if path.is_file())
    chosen = choose(names, variant, use_safetensors)
    if chosen:
        return folder / chosen
    variants = sorted({tag for stem, kind in _stems(use_safetensors) for tag in _variants(names, stem, kind)})
    if variants:
        told = ", ".join(shown(tag) for tag in variants[:6])
        raise ModelError(
            f"{folder}: has weights of the variants {told} and no others; say which (run, batch and convert: --variant)"
        )
    wanted = " or ".join(f".{kind}" for kind in _KINDS[use_safetensors])
    found = ", ".join(shown(path.name) for path in sorted(folder.iterdir())[:6]) or "nothing"
    raise ModelError(f"{folder}: has no weights in {wanted} files (found: {found}); download the model again")


def choose(names: Collection[str], variant: str | None, use_safetensors: bool | None) -> str | None:
    """Which of a folder's files `find_weights` takes."""
    return next((name for name in _candidates(sorted(names), variant, use_safetensors) if name in names), None)


def _candidates(names: Collection[str], variant: str | None, use_safetensors: bool | None) -> Iterator[str]:
    stems = _stems(use_safetensors)
    for tag in (variant, None) if variant else (None,):
        for stem, kind in stems:
            yield from _in_order(stem, kind, tag)
    for stem, kind in stems:
        tags = _variants(names, stem, kind)
        yield from _in_order(stem, kind, *tags) if len(tags) == 1 else ()
    if "msgpack" in _KINDS[use_safetensors]:
        yield from _FLAX_NAMES


def _stems(use_safetensors: bool | None) -> list[tuple[str, str]]:
    return [(stem, kind) for stem, kind in _TORCH_STEMS if kind in _KINDS[use_safetensors]]


def _in_order(stem: str, kind: str, variant: str | None) -> tuple[str, ...]:
    whole, *indices = file_names(stem, kind, variant)
    return (*indices, whole) if stem == _INDEX_FIRST else (whole, *indices)


def _variants(names: Collection[str], stem: str, kind: str) -> set[str]:
    """The variants of which there is a whole file or an index of shards."""
    forms = [re.escape(form).replace(re.escape("*"), r"([^.]+)") for form in file_names(stem, kind, "*")]
    found = {match[1] for name in names for form in forms if (match := re.fullmatch(form, name))}
    return {tag for tag in found if "-of-" not in tag}


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


def shard_names(stem: str, variant: str | None, count: int) -> list[str]:
    """The names of so many shards in safetensors, in their order."""
    start = f"{stem}.{variant}" if variant else stem
    return [f"{start}-{number:05d}-of-{count:05d}.safetensors" for number in range(1, count + 1)]


def is_of_save(name: str, stem: str, variant: str | None) -> bool:
    """Whether a file in safetensors belongs to a save of this variant: whole, index or shard."""
    start = re.escape(f"{stem}.{variant}" if variant else stem)
    is_shard = re.fullmatch(start + r"-\d{5}-of-\d{5}\.safetensors", name)
    return bool(is_shard) or name in file_names(stem, "safetensors", variant)
