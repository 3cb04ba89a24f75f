"""Components in memory as a Checkpoint, so that they are written as any other is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from ...names.table import Origin
from ..formats.source import IN_MEMORY, MemorySource
from .checkpoint import Checkpoint, Component
from .components import KINDS, Config
from .families import family_of
from .from_folder import is_openclip, traits
from .layouts import Slot
from .prediction import Prediction
from .renamed import Renamed
from .tokenizers import TokenizerFiles


def of_components(
    networks: Mapping[Slot, tuple[Config, Mapping[str, Tensor]]],
    *,
    scheduler: Mapping[str, Any] | None = None,
    tokenizer: Mapping[str, str] | None = None,
    native_size: int | None = None,
    path: Path = IN_MEMORY,
) -> Checkpoint:
    """The checkpoint of networks: each its config and its tensors by our names.

    `scheduler` is a config with its `_class_name`; `tokenizer` has names and contents of a tokenizer folder's files;
    `path` is what errors call the model.
    """
    components: dict[Slot, Component] = {}
    for slot, (config, tensors) in networks.items():
        kind = next(k for k in KINDS.values() if k.slot == slot and k.config is type(config))
        source = MemorySource(tensors, path=path)
        renamed = Renamed(source, {name: Origin((name,)) for name in tensors})
        components[slot] = Component(kind, config, renamed, openclip=is_openclip(config))
    family = family_of(traits({slot: component.config for slot, component in components.items()}))
    encoder = components.get("text_encoder")
    text = encoder.text if encoder else None
    files = TokenizerFiles(path, "", text, carried=json.dumps(dict(tokenizer))) if tokenizer else None
    return Checkpoint(
        path=path,
        format="memory",
        family=family,
        components=components,
        prediction=Prediction(str((scheduler or {}).get("prediction_type", "epsilon")), "its scheduler"),
        scheduler=scheduler,
        tokenizers={"text_encoder": files} if files else {},
        native_size=native_size,
    )
