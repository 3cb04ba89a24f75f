"""From the options of `from_pretrained` and friends to the components of a pipeline, and back to a folder."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ..engine.components import NAMES
from ..engine.loading import from_file, from_folder
from ..errors import UsageError, did_you_mean
from .components import as_dtype

_RESOLVE = (
    "cache_dir",
    "force_download",
    "proxies",
    "local_files_only",
    "revision",
    "subfolder",
    "token",
    "mirror",
    "resume_download",
)
_SINGLE = ("config", "prediction_type", "ema", "partial")
# The newer name of torch_dtype, and a wish that is always granted.
_EVERYWHERE = ("dtype", "low_cpu_mem_usage")
_READ = ("variant", "use_safetensors", "partial")


def pretrained_components(
    source: str | os.PathLike[str], dtype: torch.dtype | str | None, options: Mapping[str, Any]
) -> dict[str, Any]:
    """The constructor's arguments for a folder or Hub id; components among `options` are taken as they are."""
    from ..weights.hub import resolve

    _refuse_unknown(options, (*NAMES, *_RESOLVE, *_READ, *_EVERYWHERE))
    given, reading = _among(options, NAMES), _among(options, _READ)
    hints = {name: reading[name] for name in ("variant", "use_safetensors") if name in reading}
    folder = resolve(source, **_among(options, _RESOLVE), **hints)
    dtype = as_dtype(options.get("dtype", dtype))
    return from_folder(folder, dtype, given, **reading)


def single_file_components(
    source: str | os.PathLike[str], dtype: torch.dtype | str | None, options: Mapping[str, Any]
) -> dict[str, Any]:
    """The constructor's arguments for a checkpoint that is one file: a path, also without its ending, or a Hub URL."""
    from ..weights.hub import resolve

    _refuse_unknown(options, (*NAMES, *_RESOLVE, *_SINGLE, *_EVERYWHERE))
    given, dtype = _among(options, NAMES), as_dtype(options.get("dtype", dtype))
    path = resolve(source, **_among(options, _RESOLVE)) if "://" in str(source) else Path(source)
    return from_file(path, dtype, given, **_among(options, _SINGLE))


def save_components(
    components: Mapping[str, Any], requires_checker: bool, folder: str | os.PathLike[str], options: Mapping[str, Any]
) -> None:
    """Writes every component under `folder`, in the diffusers layout."""
    from ..weights.write.save import save_folder

    _refuse_unknown(options, ("variant", "max_shard_size", "safe_serialization"))
    if options.get("safe_serialization") is False:
        raise UsageError("safe_serialization=False would write pickles; only safetensors are written")
    kept = {name: value for name, value in options.items() if name != "safe_serialization"}
    save_folder(Path(folder), components, requires_safety_checker=requires_checker, **kept)


def _among(options: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: options[name] for name in names if name in options}


def _refuse_unknown(options: Mapping[str, Any], known: tuple[str, ...]) -> None:
    if "original_config" in options:
        raise UsageError("`original_config` is not read; give `config=` (a diffusers folder) or `prediction_type=`")
    for name in options:
        if name not in known:
            raise UsageError(f"no option `{name}`{did_you_mean(name, known)}; expected some of {', '.join(known)}")
