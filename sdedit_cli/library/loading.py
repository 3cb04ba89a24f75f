"""From the options of `from_pretrained` and friends to the components of a pipeline, and back to a folder."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch

from ..engine.components import NAMES
from ..engine.loading import components_of, located
from ..errors import ModelError, UsageError, did_you_mean
from .components import as_dtype
from .keywords import RESOLVING, among, as_folder, as_place, without_harmless

_SINGLE = ("config", "prediction_type", "ema", "partial")
_EVERYWHERE = ("dtype", "disable_mmap")  # the newer name of torch_dtype, and the reference's of `reading(whole=)`
_READ = ("variant", "use_safetensors", "partial")


def pretrained_components(
    source: str | os.PathLike[str], dtype: torch.dtype | str | None, options: Mapping[str, Any]
) -> tuple[dict[str, Any], int | None]:
    """The constructor's arguments for a folder or Hub id, components among `options` as they are; and its native size.

    Raises ModelError for what is no folder of a model, UsageError for an unknown option.
    """
    source, options = as_place(source, "the model"), _known(options, (*NAMES, *RESOLVING, *_READ, *_EVERYWHERE))
    given, reading = among(options, NAMES), among(options, _READ)
    hints = {name: reading[name] for name in ("variant", "use_safetensors") if name in reading}
    folder = located(source, **among(options, RESOLVING), **hints)
    dtype = as_dtype(options.get("dtype") or dtype)
    if not folder.is_dir():
        raise ModelError(
            f"{folder}: is no folder; expected a model in diffusers layout (of one file: from_single_file)"
        )
    with _as_asked(options):
        return components_of(folder, dtype, given, **reading)


def single_file_components(
    source: str | os.PathLike[str], dtype: torch.dtype | str | None, options: Mapping[str, Any]
) -> tuple[dict[str, Any], int | None]:
    """The same for a checkpoint that is one file: a path, also without its ending, or a Hub URL."""
    from ..weights.checkpoint.open import find_single_file

    source, options = as_place(source, "the checkpoint"), _known(options, (*NAMES, *RESOLVING, *_SINGLE, *_EVERYWHERE))
    given, dtype = among(options, NAMES), as_dtype(options.get("dtype") or dtype)
    path = located(source, **among(options, RESOLVING)) if "://" in str(source) else Path(source)
    with _as_asked(options):
        return components_of(find_single_file(path), dtype, given, **among(options, _SINGLE))


def _as_asked(options: Mapping[str, Any]) -> AbstractContextManager[None]:
    from ..weights.formats.mapped_file import reading

    return reading(whole=bool(options.get("disable_mmap")))


def save(
    components: Mapping[str, Any], folder: str | os.PathLike[str], options: Mapping[str, Any], **facts: Any
) -> None:
    """Writes every component under `folder`, in the diffusers layout, with `facts` as `save_components` takes them."""
    from ..weights.write.save import save_components

    options = _known(options, ("variant", "max_shard_size", "safe_serialization"))
    if options.get("safe_serialization") is False:
        raise UsageError("safe_serialization=False would write pickles; only safetensors are written")
    kept = {name: value for name, value in options.items() if name != "safe_serialization" and value is not None}
    save_components(as_folder(folder), components, **facts, **kept)


def _known(options: Mapping[str, Any], known: tuple[str, ...]) -> dict[str, Any]:
    """The options that ask for something. Raises UsageError for one that is not known."""
    asking = without_harmless(options)
    for name in asking:
        if name not in known:
            raise UsageError(f"no option `{name}`{did_you_mean(name, known)}; expected some of {', '.join(known)}")
    return asking
