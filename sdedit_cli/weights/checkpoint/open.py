"""open_checkpoint: a model of any kind, before any tensor is read."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from ...errors import ModelError
from ..formats.open import open_weights
from .checkpoint import Checkpoint
from .from_file import read_file
from .from_folder import read_folder
from .index import SCHEDULER
from .other_folders import said_of

SUFFIXES = (".safetensors", ".ckpt", ".pt", ".bin", ".pth")


def open_checkpoint(
    path: Path | str,
    *,
    config: Path | str | None = None,
    prediction_type: str | None = None,
    ema: bool = False,
    variant: str | None = None,
    use_safetensors: bool | None = None,
    skip: Collection[str] = (),
) -> Checkpoint:
    """The model in a single file (its path may lack the ending) or in a folder. See `read_file` and `read_folder`.

    Raises ModelError for what is no model, or has no EMA copy or variant where that was asked for; UsageError for an
    unknown prediction type. Whether a model is complete, `load.check` says.
    """
    path, given = Path(path), Path(config) if config is not None else None
    if given is not None:
        _check_config_folder(given)
    if not path.is_dir():
        if variant:
            raise ModelError(f"{path}: a single file has no variants; leave --variant out")
        source = open_weights(find_single_file(path))
        return read_file(source, prediction_type=prediction_type, config=given, ema=ema, skip=skip)
    if ema:
        raise ModelError(f"{path}: a folder in diffusers layout has no EMA copy; leave --ema out")
    try:
        return read_folder(
            path,
            config=given,
            prediction_type=prediction_type,
            variant=variant,
            use_safetensors=use_safetensors,
            skip=skip,
        )
    except ModelError:
        if words := said_of(path):
            raise ModelError(f"{path}: {words}") from None
        raise


# What a folder that is given as --config may have: of some of it, the rest comes from shapes and the family.
_CONFIGS = ("unet/config.json", "vae/config.json", "text_encoder/config.json", SCHEDULER.as_posix(), "tokenizer")


def _check_config_folder(folder: Path) -> None:
    """Raises ModelError for a folder that says nothing of a model."""
    if not folder.is_dir():
        raise ModelError(f"the config folder {folder} is not there; expected a folder in diffusers layout")
    if not any((folder / name).exists() for name in _CONFIGS):
        raise ModelError(f"the config folder {folder} has none of {', '.join(_CONFIGS)}; expected a model's folder")


def find_single_file(path: Path | str) -> Path:
    """The file itself, or the one file that has this name with a known extension. Raises ModelError for none."""
    path = Path(path)
    if path.exists() and not path.is_dir():
        return path  # of a pipe or a device, what opens it says what is wrong
    found = [p for p in (path.with_name(path.name + suffix) for suffix in SUFFIXES) if p.is_file()]
    if found:
        return found[0]
    if path.is_dir():
        raise ModelError(f"{path}: is a folder, expected a weights file ({', '.join(SUFFIXES)})")
    raise ModelError(f"{path}: no such file, nor one with {', '.join(SUFFIXES)} after its name")
