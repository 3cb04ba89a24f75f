"""The adapters of a picture of `--like`: those that are in the folders of adapters, found by their hashes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..options import Layer
from ..options.adapters import EmbeddingFile
from ..pictures.record import Found, Ingredient
from .folders import Folders


def _embedding(path: Path, one: Ingredient) -> EmbeddingFile:
    plain = EmbeddingFile(str(path))
    return plain if plain.word.lower() == one.name.lower() else replace(plain, token=one.name)


# The kinds that are looked for -> the value of the option for one that was found.
_VALUES: Mapping[str, Callable[[Path, Ingredient], Any]] = {"embedding": _embedding}


def recovered(found: Found, folders: Mapping[str, Folders], given: Collection[str]) -> tuple[Layer, Found]:
    """The layer of the adapters that are here, and the picture's words with what is left out of them.

    Nothing is looked for of kinds that the user has `given` in its place.
    """
    values: dict[str, list[Any]] = {}
    taken: list[Ingredient] = []
    for one in dict.fromkeys(found.ingredients):
        if one.kind not in _VALUES or one.kind in given or not one.name:
            continue
        path = folders[one.kind].by_hash(one.sha256, one.name)
        if path is not None:
            values.setdefault(one.kind, []).append(_VALUES[one.kind](path, one))
            taken.append(one)
    layer = Layer(found.layer.source, {kind: tuple(files) for kind, files in values.items()})
    return layer, replace(found, ignored=found.left_out(taken))
