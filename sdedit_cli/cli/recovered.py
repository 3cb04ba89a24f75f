"""The adapters of a picture of `--like`: those that are in the folders of adapters, found by their hashes or names."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import PictureError, UsageError, shown
from ..options import Layer
from ..options.adapters import EmbeddingFile
from ..options.masks import ALPHA
from ..pictures.record import Found, Ingredient
from .folders import Folders
from .loras import beside_tags, find_lora, lora_file


@dataclass(frozen=True, slots=True)
class _Kind:
    """A kind that is looked for: which of a picture's ingredients, where they are, and the option's value for one."""

    among: Callable[[Found], Collection[Ingredient]]
    find: Callable[[Ingredient, Folders], Path | None]
    value: Callable[[str, Ingredient], Any]


def _embedding(path: str, one: Ingredient) -> EmbeddingFile:
    plain = EmbeddingFile(path)
    return plain if plain.word.lower() == one.name.lower() else replace(plain, token=one.name)


def _of_kind(kind: str) -> Callable[[Found], Collection[Ingredient]]:
    return lambda found: [one for one in dict.fromkeys(found.ingredients) if one.kind == kind and one.name]


def _has_strength(one: Ingredient, found: Found) -> bool:
    """Web UIs say in the prompt alone how strongly a LoRA works."""
    return found.exact or one.scale is not None


_KINDS: Mapping[str, _Kind] = {
    "embedding": _Kind(_of_kind("embedding"), lambda one, where: where.by_hash(one.sha256, one.name), _embedding),
    "lora": _Kind(lambda found: [one for one in beside_tags(found) if _has_strength(one, found)], find_lora, lora_file),
}

# Kinds of files -> the option that gives one, where it has another name or is not the file's own.
_GIVEN_BY = {"ip-adapter": "ip_adapter", "ip-image": "ip_image", "ip-encoder": "ip_adapter"}


def recovered(
    found: Found, folders: Mapping[str, Folders], given: Collection[str]
) -> tuple[Layer, Found, tuple[str, ...]]:
    """The layer of the adapters that are here, the picture's words with what is left out of them, notes for people.

    Nothing is looked for of kinds that the user has `given` in its place. Raises PictureError for what no adapter has,
    ModelError for a name that is several files.
    """
    source = found.layer.source
    values: dict[str, tuple[Any, ...]] = {}
    read = _as_read(found, given)
    taken = [one for one in found.ingredients if one.kind == "lora" and one not in beside_tags(read)]
    # What stands in their place is compared with them before anything runs.
    taken += [one for one in found.ingredients if _GIVEN_BY.get(one.kind, one.kind) in given]
    notes: list[str] = []
    for name, kind in _KINDS.items():
        if name in given:
            continue
        paths = [(one, kind.find(one, folders[name])) for one in kind.among(read)]
        files = tuple(_value(kind, path, one, source) for one, path in paths if path)
        # Our own block that names none of a kind says that there was none.
        if files or (found.exact and not paths):
            values[name] = files
        taken += [one for one, path in paths if path]
        word = folders[name].kind.word
        notes += [
            f"{source}: the {word} '{shown(one.name)}' is {path or f'not in the {word} folders; give it with --{name}'}"
            for one, path in paths
        ]
    values, masks, left = _mask(found, values, given)
    ignored = (*found.left_out([*taken, *masks]), *left)
    return Layer(source, values), replace(found, ignored=ignored), tuple(notes)


def _as_read(found: Found, given: Collection[str]) -> Found:
    """The picture without a prompt, if it was made with encoded ones and such are given: its tags are read by nobody
    then, and its LoRAs were given beside."""
    if "prompt_embeds" not in given or all(one.kind != "prompt_embeds" for one in found.ingredients):
        return found
    values = {name: value for name, value in found.layer.values.items() if name != "prompt"}
    return replace(found, layer=replace(found.layer, values=values))


def _mask(
    found: Found, values: dict[str, Any], given: Collection[str]
) -> tuple[dict[str, Any], list[Ingredient], list[str]]:
    """The values with a mask that needs no file, the masks that are dealt with, and what is to be said of others."""
    masks = [one for one in found.ingredients if one.kind == "mask"]
    if "mask" in given or not masks:
        return values, masks, []
    if masks[0].name == ALPHA and not masks[0].sha256:
        return {**values, "mask": ALPHA}, masks, []
    name = shown(masks[0].name)
    return values, masks, [f"mask: {name} (all of the picture is edited; give the mask again with --mask)"]


def _value(kind: _Kind, path: Path, one: Ingredient, source: str) -> Any:
    try:
        return kind.value(str(path), one)
    except UsageError as problem:
        raise PictureError(f"{source}: {problem}") from None
