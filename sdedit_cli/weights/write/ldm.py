"""A model as a single file in LDM's layout: tensors under its names, and metadata for what shapes cannot tell."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from ...errors import UsageError
from ..checkpoint import Checkpoint, notes
from ..checkpoint.checkpoint import EMA_PREFIXES
from ..checkpoint.from_file import read_file
from ..checkpoint.layouts import Slot
from ..formats.source import EntrySource, WeightSource
from .safetensors import Item, item, items_of

_MODELSPEC = {"epsilon": "epsilon", "v_prediction": "v"}
# Hashes of the file that was: no longer true of the one that is written.
_STALE = ("modelspec.hash_sha256", "sshs_model_hash", "sshs_legacy_hash", "format")


def ldm_items(
    checkpoint: Checkpoint, dtype: torch.dtype | None, ema: bool | None, only: Slot | None
) -> tuple[tuple[Item, ...], tuple[str, ...]]:
    """The tensors of the file, and the source's names that are left out.

    Of a source in the same layout all that can be is kept but the EMA copy where `ema` says so: buffers of training
    code and unused layers are harmless, and other programs may look for them. Raises UsageError for a tiny VAE.
    """
    components = checkpoint.only(only)
    items: list[Item] = []
    for slot, component in components.items():
        if not component.table:
            raise UsageError(f"{checkpoint.path}: a tiny VAE has no LDM layout; convert it --to diffusers")
        alone = slot == "vae" and len(components) == 1  # programs that load a VAE by itself expect bare names
        renamed = component.in_ldm("" if alone else checkpoint.family.prefix(slot, component.openclip))
        items += items_of(renamed, dtype)
    source = checkpoint.source
    if source is None:
        return tuple(items), checkpoint.dropped
    taken = {entry.name for entry in items}
    left = [name for name in checkpoint.dropped if name not in taken and _stays(checkpoint, source, name, ema, only)]
    leftovers = [item(name, source, name, dtype) for name in left]
    items += [entry for entry in leftovers if entry.is_writable]
    kept = {entry.name for entry in items}.union(*(c.tensors.source_names() for c in components.values()))
    return tuple(items), tuple(name for name in source.names() if name not in kept)


def _stays(checkpoint: Checkpoint, source: WeightSource, name: str, ema: bool | None, only: Slot | None) -> bool:
    copy, original = EMA_PREFIXES
    if name in source.unreadable or (ema is not None and name.startswith(copy)) or (ema and name.startswith(original)):
        return False
    if only is None and checkpoint.is_complete:
        return True
    prefixes = tuple(component.prefix for component in checkpoint.only(only).values() if component.prefix)
    return name.startswith(prefixes)


class _Planned(EntrySource[Item]):
    """The file to be written as a source without values: what a reader will make of it."""

    def __init__(self, path: Path, items: Sequence[Item]) -> None:
        self.path = path
        self._entries = {entry.name: entry for entry in items}

    def get(self, name: str) -> Tensor:
        raise AssertionError(f"'{name}' is not written yet")


def ldm_metadata(checkpoint: Checkpoint, items: Sequence[Item]) -> dict[str, str]:
    """The source's metadata, the prediction type, and notes where a reader of the tensors alone would be wrong."""
    seen = read_file(_Planned(checkpoint.path, items))
    kept = {key: value for key, value in checkpoint.metadata.items() if key not in (*_STALE, *notes.OF_FILES)}
    return {**kept, **_prediction(checkpoint, seen), **_notes(checkpoint, seen)}


def _prediction(checkpoint: Checkpoint, seen: Checkpoint) -> Mapping[str, str]:
    kind = checkpoint.prediction.kind
    if "unet" not in checkpoint.components or checkpoint.prediction.guessed:
        return {}
    told = {notes.PREDICTION: kind}
    if kind in _MODELSPEC:
        told["modelspec.prediction_type"] = _MODELSPEC[kind]
    if seen.family.scheduler(kind) != checkpoint.scheduler:
        told[notes.SCHEDULER] = json.dumps(checkpoint.scheduler)
    return told


def _notes(checkpoint: Checkpoint, seen: Checkpoint) -> Mapping[str, str]:
    told: dict[str, str] = {}
    unusual = {
        component.kind.name: checkpoint.components[slot].config.to_dict()
        for slot, component in seen.components.items()
        if slot in checkpoint.components and component.config != checkpoint.components[slot].config
    }
    if unusual:
        told[notes.CONFIGS] = json.dumps(unusual)
    if checkpoint.native_size is not None and "unet" in seen.components:
        told[notes.NATIVE_SIZE] = str(checkpoint.native_size)
    if (block := checkpoint.block.as_json()) and "unet" in seen.components:
        told[notes.BLOCK] = json.dumps(block)
    files = checkpoint.tokenizers.get("text_encoder")
    tokenizer = files.note(seen.family.padding["text_encoder"]) if files and "text_encoder" in seen.components else None
    if tokenizer is not None:
        told[notes.TOKENIZER] = tokenizer
    return told
