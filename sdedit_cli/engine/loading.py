"""From checkpoints to components. `weights` is imported by the functions that load."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..errors import ModelError
from ..noise import Scheduler
from ..options import Edit
from .components import NAMES, VAE, Components
from .safety import load_checker, load_feature_extractor

if TYPE_CHECKING:
    from ..weights import Components as Loaded

STARTER_FOLDER = Path(__file__).parent.parent / "assets" / "starter"
"""The built-in model."""


def from_folder(path: Path, dtype: torch.dtype, given: Mapping[str, Any], **reading: Any) -> dict[str, Any]:
    """The fields of Components from a folder in the diffusers layout, `given` ones in place of what it holds.

    Raises ModelError for what is missing or does not fit.
    """
    from ..weights import load_folder

    return _components_of(load_folder(path, dtype=dtype, skip=tuple(given), **reading), given, dtype)


def from_file(path: Path, dtype: torch.dtype, given: Mapping[str, Any], **reading: Any) -> dict[str, Any]:
    """The same from a checkpoint that is one file."""
    from ..weights.load.single_file import load_single_file

    return _components_of(load_single_file(path, dtype=dtype, skip=tuple(given), **reading), given, dtype)


def for_edit(edit: Edit, path: Path, dtype: torch.dtype) -> Components:
    """The components of a checkpoint as an edit asks for them. Raises ModelError for what cannot be loaded."""
    given: dict[str, Any] = {}
    if edit.safety == "off" or not (path / "safety_checker").is_dir():
        # A feature extractor alone would cost the import of transformers and do nothing.
        given |= {"safety_checker": None, "feature_extractor": None}
    if edit.vae is not None:
        given["vae"] = load_vae(Path(edit.vae), dtype)
    if path.is_dir():
        found = from_folder(path, dtype, given, partial=edit.partial)
        change = {} if edit.prediction_type is None else {"prediction_type": edit.prediction_type}
    else:
        reading = {"config": edit.config, "prediction_type": edit.prediction_type}
        found, change = from_file(path, dtype, given, partial=edit.partial, **reading), {}
    found["scheduler"] = Scheduler.from_config(found["scheduler"].modernised(), **change)
    return Components(**found)


def load_vae(path: Path, dtype: torch.dtype) -> VAE:
    """The autoencoder of a file, of its own folder, or of a whole model's. Raises ModelError when there is none."""
    from ..weights import load_folder
    from ..weights.load.single_file import load_single_file

    skip = tuple(name for name in NAMES if name != "vae")
    load = load_folder if path.is_dir() else load_single_file
    vae = load(path, dtype=dtype, skip=skip).vae
    if vae is None:
        raise ModelError(f"{path}: holds no autoencoder; name a VAE file, its folder, or a model that has one")
    return vae


def _components_of(loaded: Loaded, given: Mapping[str, Any], dtype: torch.dtype) -> dict[str, Any]:
    found: dict[str, Any] = {name: getattr(loaded, name) for name in ("vae", "text_encoder", "tokenizer", "unet")}
    if loaded.scheduler_config is not None:
        try:
            found["scheduler"] = Scheduler.from_config(loaded.scheduler_config)
        except ModelError as error:
            raise ModelError(f"{loaded.folder}: {error}") from None
    if loaded.safety_checker and "safety_checker" not in given:
        found["safety_checker"] = load_checker(loaded.safety_checker, dtype)
    if loaded.feature_extractor and "feature_extractor" not in given:
        found["feature_extractor"] = load_feature_extractor(loaded.feature_extractor)
    found |= {"requires_safety_checker": loaded.requires_safety_checker, **given}
    for name in ("unet", "vae", "scheduler"):
        if found.get(name) is None:
            advice = "name one with --vae or `vae=`" if name == "vae" else "give a complete checkpoint"
            raise ModelError(f"{loaded.folder}: has no {name}, which every edit needs; {advice}")
    return found
