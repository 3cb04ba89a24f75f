"""Which model an adapter is for: the one that is named, or the likeliest by its shapes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import ModelError, shortened
from ...options import BUILT_IN_NAME
from ..models import find_model, is_there

if TYPE_CHECKING:
    from ...adapters.architecture import Architecture
    from ...weights.checkpoint import Checkpoint
    from ...weights.formats.source import WeightSource


def checkpoint_at(path: Path) -> Path:
    """The checkpoint that a path names: also the built-in one, by the name that --model has for it."""
    from ...configs.model_block import STARTER_FOLDER

    return STARTER_FOLDER if str(path) == BUILT_IN_NAME and not is_there(path, str(path)) else path


def architecture_of(source: WeightSource, model: str | None) -> Architecture | None:
    """The model that an adapter is for, the first of several; None for another family's."""
    return next(iter(architectures_of(source, model)), None)


def architectures_of(source: WeightSource, model: str | None) -> Sequence[Architecture]:
    """The models that an adapter is for: the one that was named, or those whose shapes it fits; none for another
    family's."""
    from ...adapters.architecture import KNOWN, likeliest
    from ...configs.model_block import STARTER_FOLDER
    from ...weights.checkpoint import open_checkpoint

    if model is None:
        return likeliest(source, [*KNOWN, architecture_in(open_checkpoint(STARTER_FOLDER), "the built-in model")])
    from ...presets import user_config

    found = find_model(model, user_config(os.environ).model_folders)
    if found.hub is not None:
        raise ModelError(f"--model {shortened(model)}: no such file or folder")
    return [architecture_in(open_checkpoint(found.path or STARTER_FOLDER))]


def family_by_shapes(source: WeightSource) -> str:
    """The family of a known model that an adapter fits whose keys name none; '' where it fits none."""
    return titles(architectures_of(source, None))


def titles(architectures: Sequence[Architecture]) -> str:
    """What models are called where an adapter may be for each of them."""
    return " or ".join(one.title for one in architectures)


def architecture_in(checkpoint: Checkpoint, title: str = "") -> Architecture:
    """The modules of a checkpoint that adapters may be for."""
    from ...adapters.architecture import Architecture

    configs = {slot: component.config for slot, component in checkpoint.components.items()}
    return Architecture.of(configs.get("unet"), configs.get("text_encoder"), title or checkpoint.title())


def known_architecture(path: Path, model: str | None) -> Architecture:
    """The model that the adapter at `path` is for. Raises ModelError where it is none that is known."""
    from ...adapters.architecture import unknown
    from ...adapters.open import open_adapter

    source, _ = open_adapter(path)
    architecture = architecture_of(source, model)
    if architecture is None:
        raise unknown(source)
    return architecture
