"""A model as a single file in LDM's layout: tensors under its names, and metadata for what shapes cannot tell."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from ...configs.clip import CLIPTextConfig
from ...errors import UsageError
from ...names import ldm
from ...names.table import origins, prefixed
from ...text import Tokenizer
from ..checkpoint.from_file import CONFIGS_KEY, detect
from ..checkpoint.from_folder import Model, Piece, read_text
from ..checkpoint.layouts import Component
from ..checkpoint.native_size import METADATA_KEY, native_size
from ..checkpoint.prediction import PREDICTION_KEY, SCHEDULER_KEY, scheduler_of
from ..checkpoint.renamed import Renamed
from ..checkpoint.tokenizers import TOKENIZER_FILES, TOKENIZER_KEY, is_of_family
from .safetensors import Item, item

_MODELSPEC = {"epsilon": "epsilon", "v_prediction": "v"}
# Hashes of the file that was: no longer true of the one that is written.
_STALE = ("modelspec.hash_sha256", "sshs_model_hash", "sshs_legacy_hash", "format")


def ldm_items(
    model: Model, dtype: torch.dtype | None, ema: bool | None, only: Component | None
) -> tuple[tuple[Item, ...], tuple[str, ...]]:
    """The tensors of the file, and the source's names that are left out.

    Of a source in the same layout all that can be is kept but the EMA copy where `ema` says so: buffers of training
    code and unused layers are harmless, and other programs may look for them. Raises UsageError for a tiny VAE.
    """
    pieces = model.chosen(only)
    items: list[Item] = []
    for component, piece in pieces.items():
        if not piece.table:
            raise UsageError(f"{model.path}: a tiny VAE has no LDM layout; convert it --to diffusers")
        alone = component == "vae" and len(pieces) == 1  # programs that load a VAE by itself expect bare names
        items += _renamed(piece, "" if alone else piece.prefix, dtype)
    if model.raw is None or model.detected is None:
        return tuple(items), model.dropped
    taken = {i.name for i in items}
    left = [name for name in model.dropped if name not in taken and _stays(model, name, ema, only)]
    leftovers = [item(name, model.raw, name, dtype) for name in left]
    items += [entry for entry in leftovers if entry.is_writable]
    kept = {i.name for i in items} | _sources(pieces)
    return tuple(items), tuple(name for name in model.raw.names() if name not in kept)


def _own_tokenizer(model: Model, text: CLIPTextConfig) -> dict[str, str] | None:
    """LDM's layout has no tokenizer: another one than the family's has to travel in the metadata. None: the metadata
    may keep what they have."""
    folder = model.tokenizer_folder("tokenizer")
    if folder is None:
        return None
    own = Tokenizer.from_folder(folder, text.max_position_embeddings)
    if is_of_family(own, model.path, text, model.family.name == "sd2"):
        return {}
    files = {name: read_text(folder / name) for name in TOKENIZER_FILES if (folder / name).is_file()}
    return {TOKENIZER_KEY: json.dumps(files)}


def _renamed(piece: Piece, prefix: str, dtype: torch.dtype | None) -> list[Item]:
    found = origins(prefixed(piece.table, prefix), set(piece.tensors.names()), to="foreign")
    source = Renamed(piece.tensors, found)
    return [item(name, source, name, dtype) for name in found]


def _stays(model: Model, name: str, ema: bool | None, only: Component | None) -> bool:
    assert model.detected is not None
    if name in getattr(model.raw, "unreadable", ()):
        return False
    if ema is not None and name.startswith(ldm.EMA):
        return False
    if ema and name.startswith(ldm.UNET):
        return False
    if only is None:
        return model.detected.complete or name.startswith(_prefixes(model))
    place = model.detected.parts[only].place
    return bool(place.prefix) and name.startswith(place.prefix)


def _prefixes(model: Model) -> tuple[str, ...]:
    assert model.detected is not None
    return tuple(part.place.prefix for part in model.detected.parts.values() if part.place.prefix)


def _sources(pieces: Mapping[Component, Piece]) -> set[str]:
    return {name for piece in pieces.values() for name in piece.tensors.source_names()}


class _Planned:
    """The file to be written as a source without values: what detection will make of it."""

    def __init__(self, path: Path, items: Sequence[Item], metadata: Mapping[str, str]) -> None:
        self.path, self.metadata = path, metadata
        self._items = {i.name: i for i in items}

    def names(self) -> list[str]:
        return list(self._items)

    def shape(self, name: str) -> tuple[int, ...]:
        return self._items[name].shape

    def dtype(self, name: str) -> torch.dtype:
        return self._items[name].dtype

    def get(self, name: str) -> Tensor:
        raise AssertionError(f"'{name}' is not written yet")


def ldm_metadata(model: Model, items: Sequence[Item]) -> dict[str, str]:
    """The source's metadata, the prediction type, and configs where shapes alone would lead to others."""
    metadata = {key: value for key, value in model.metadata.items() if key not in (*_STALE, CONFIGS_KEY)}
    kind = model.training.prediction_type
    if "unet" in model.pieces and not model.training.guessed:
        metadata[PREDICTION_KEY] = kind
        if kind in _MODELSPEC:
            metadata["modelspec.prediction_type"] = _MODELSPEC[kind]
        if scheduler_of(model.family.name, kind) != model.training.scheduler:
            metadata[SCHEDULER_KEY] = json.dumps(model.training.scheduler)
    seen = detect(_Planned(model.path, items, {}))
    unusual = {
        name: model.pieces[name].config.to_dict()
        for name, part in seen.parts.items()
        if name in model.pieces and part.config != model.pieces[name].config
    }
    if unusual:
        metadata[CONFIGS_KEY] = json.dumps(unusual)
    size = native_size(model.path)
    if size is not None and "unet" in seen.parts:
        metadata[METADATA_KEY] = str(size)
    if "text_encoder" in seen.parts:
        own = _own_tokenizer(model, cast(CLIPTextConfig, model.pieces["text_encoder"].config))
        if own is not None:
            metadata = {key: value for key, value in metadata.items() if key != TOKENIZER_KEY} | own
    return metadata
