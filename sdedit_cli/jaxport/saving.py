"""The components and params of a pipeline as a folder that the original loads too."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from torch import Tensor

from ..weights.checkpoint.from_memory import of_components
from ..weights.checkpoint.layouts import Slot
from ..weights.write.flax import save_flax
from .layers import Arrays
from .loading import NETWORKS, as_tensor
from .program import Params


def save(folder: Path, components: Mapping[str, Any], params: Params, native_size: int | None) -> None:
    """Writes a pipeline's components under `folder`, weights in Flax's format. Raises OutputError."""
    networks = {name: (components[name].config, _tensors(params[name])) for name in NETWORKS}
    checkpoint = of_components(
        cast("Mapping[Slot, Any]", networks),
        scheduler=components["scheduler"].settings.to_file(),
        tokenizer=components["tokenizer"].folder_files(),
        native_size=native_size,
        path=folder,
    )
    checker = components["safety_checker"]
    saved = None if checker is None else (checker.config, _tensors(params["safety_checker"]))
    extractor = components["feature_extractor"]
    save_flax(folder, checkpoint, saved, None if extractor is None else extractor.to_dict())


def _tensors(arrays: Arrays) -> dict[str, Tensor]:
    return {name: as_tensor(array) for name, array in arrays.items()}
