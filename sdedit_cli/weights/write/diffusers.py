"""A model as a folder in diffusers layout: configs, tokenizer, scheduler, index, and the weights in shards."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from ..checkpoint import Checkpoint, Component, index, notes
from ..checkpoint.components import EXTRAS, KINDS
from ..checkpoint.layouts import Slot
from ..checkpoint.weight_files import file_names, shard_names
from .files import OutputFile
from .safetensors import in_shards, items_of

SHARD_SIZE = 10_000_000_000
LAYOUT_VERSION = "0.42.1"  # the release of diffusers whose layout this is
_NOTHING = [None, None]
_TOKENIZER = ("transformers", "CLIPTokenizer")


@dataclass(frozen=True)
class Layout:
    """How a folder is to be written: the precision (None keeps it), the largest weights file in bytes, the variant in
    the names of weights files, the class of the index (None for the family's), and the extras that will be there with
    their classes ('' for the usual one)."""

    dtype: torch.dtype | None = None
    max_shard_size: int = SHARD_SIZE
    variant: str | None = None
    pipeline: str | None = None
    extras: Mapping[str, str] = field(default_factory=dict[str, str])
    requires_safety_checker: bool = False


def folder_files(checkpoint: Checkpoint, layout: Layout, only: Slot | None = None) -> list[OutputFile]:
    """Every file of the folder; with `only`, or of a model of one component, those of a component's own folder."""
    chosen = checkpoint.only(only)
    if len(chosen) == 1:
        (component,) = chosen.values()
        return list(_component_files(checkpoint, component, "", layout))
    files = [OutputFile(index.FILE, text=json_text(_index(checkpoint, layout)))]
    for slot, component in chosen.items():
        files += _component_files(checkpoint, component, f"{slot}/", layout)
    for slot, tokenizer in checkpoint.tokenizers.items():
        folder = KINDS[slot].tokenizer
        files += [OutputFile(f"{folder}/{name}", text=content) for name, content in tokenizer.contents().items()]
    if checkpoint.scheduler is not None:
        files.append(OutputFile(index.SCHEDULER.as_posix(), text=json_text(checkpoint.scheduler)))
    return files


def component_file(checkpoint: Checkpoint, slot: Slot, dtype: torch.dtype | None) -> OutputFile:
    """The weights of one component as a file of its own, under our names."""
    return OutputFile("", items_of(checkpoint.components[slot].tensors, dtype), _metadata(checkpoint))


def _metadata(checkpoint: Checkpoint) -> dict[str, str]:
    # What a folder says in files of its own need not be in the metadata as well.
    return {key: value for key, value in checkpoint.metadata.items() if key not in notes.OF_FILES}


def _component_files(checkpoint: Checkpoint, component: Component, folder: str, layout: Layout) -> Iterator[OutputFile]:
    kind = component.kind
    config = component.config.to_dict()
    items = items_of(component.tensors, layout.dtype)
    if kind.library == "transformers":
        config["architectures"] = [kind.classes[0]]
        config["dtype"] = str(items[0].dtype).removeprefix("torch.")
    yield OutputFile(f"{folder}config.json", text=json_text(config))
    metadata = _metadata(checkpoint) if kind.slot == "unet" or len(checkpoint.components) == 1 else {}
    shards = in_shards(items, layout.max_shard_size)
    plain, shard_index, *_ = file_names(kind.stem, "safetensors", layout.variant)
    if len(shards) == 1:
        yield OutputFile(folder + plain, items, metadata)
        return
    names = shard_names(kind.stem, layout.variant, len(shards))
    for name, shard in zip(names, shards, strict=True):
        yield OutputFile(folder + name, tuple(shard), metadata)
    weight_map = {entry.name: name for name, shard in zip(names, shards, strict=True) for entry in shard}
    content = {"metadata": {"total_size": sum(entry.nbytes for entry in items)}, "weight_map": weight_map}
    yield OutputFile(folder + shard_index, text=json_text(content))


def _index(checkpoint: Checkpoint, layout: Layout) -> dict[str, Any]:
    family = checkpoint.family
    said: dict[str, Any] = {"_class_name": layout.pipeline or checkpoint.pipeline, "_diffusers_version": LAYOUT_VERSION}
    for kind in KINDS.values():
        component = checkpoint.components.get(kind.slot)
        if kind.tokenizer and kind.slot in family.prefixes:
            there = kind.slot in checkpoint.tokenizers
            said[kind.slot] = [kind.library, kind.classes[0]] if component else _NOTHING
            said[kind.tokenizer] = list(_TOKENIZER) if there else _NOTHING
        elif component is not None and component.kind is kind:
            said[kind.slot] = [kind.library, kind.classes[0]]
    if checkpoint.scheduler is not None:
        said["scheduler"] = ["diffusers", checkpoint.scheduler["_class_name"]]
    if checkpoint.native_size is not None:
        said[index.NATIVE_SIZE] = checkpoint.native_size
    if block := checkpoint.block.as_json():
        said[index.BLOCK] = block
    said |= {"feature_extractor": _NOTHING, "image_encoder": _NOTHING, **family.index}
    for name in layout.extras:
        library, default = EXTRAS[name]
        said[name] = [library, layout.extras[name] or default]
    if family.runs:
        said["requires_safety_checker"] = layout.requires_safety_checker
    return said


def json_text(data: Mapping[str, Any]) -> str:
    """An object as a file of JSON that people can read."""
    return json.dumps(data, indent=2, sort_keys=True) + "\n"
