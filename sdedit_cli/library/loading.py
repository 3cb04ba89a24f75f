"""From the options of `from_pretrained` and friends to the parts of a pipeline, and back to a folder."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..engine.latents import VAE
from ..engine.safety import load_checker, load_feature_extractor
from ..errors import ModelError, UsageError, did_you_mean
from ..noise import Scheduler
from .components import as_dtype

if TYPE_CHECKING:
    from ..weights import Loaded
    from .pipeline import StableDiffusionImg2ImgPipeline

PARTS = (
    "vae",
    "text_encoder",
    "tokenizer",
    "unet",
    "scheduler",
    "safety_checker",
    "feature_extractor",
    "image_encoder",
    "requires_safety_checker",
)
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


def pretrained_parts(
    source: str | os.PathLike[str], dtype: torch.dtype | str | None, options: Mapping[str, Any]
) -> dict[str, Any]:
    """The constructor's arguments for a folder or Hub id; parts among `options` are taken as they are."""
    from ..weights import load_networks, resolve

    _refuse_unknown(options, (*PARTS, *_RESOLVE, *_READ, *_EVERYWHERE))
    given, reading = _among(options, PARTS), _among(options, _READ)
    hints = {name: reading[name] for name in ("variant", "use_safetensors") if name in reading}
    folder = resolve(source, **_among(options, _RESOLVE), **hints)
    dtype = as_dtype(options.get("dtype", dtype))
    return parts_of(load_networks(folder, dtype=dtype, skip=tuple(given), **reading), given, dtype)


def single_file_parts(
    source: str | os.PathLike[str], dtype: torch.dtype | str | None, options: Mapping[str, Any]
) -> dict[str, Any]:
    """The constructor's arguments for a checkpoint that is one file: a path, also without its ending, or a Hub URL."""
    from ..weights import load_networks, resolve
    from ..weights.checkpoint.open import find_single_file

    _refuse_unknown(options, (*PARTS, *_RESOLVE, *_SINGLE, *_EVERYWHERE))
    given, dtype = _among(options, PARTS), as_dtype(options.get("dtype", dtype))
    path = resolve(source, **_among(options, _RESOLVE)) if "://" in str(source) else Path(source)
    loaded = load_networks(find_single_file(path), dtype=dtype, skip=tuple(given), **_among(options, _SINGLE))
    return parts_of(loaded, given, dtype)


def parts_of(loaded: Loaded, given: Mapping[str, Any], dtype: torch.dtype) -> dict[str, Any]:
    """The constructor's arguments from what was loaded, `given` parts in place of loaded ones.

    Raises ModelError when a part that every edit needs is in neither.
    """
    parts: dict[str, Any] = {name: getattr(loaded, name) for name in ("vae", "text_encoder", "tokenizer", "unet")}
    if loaded.scheduler_config is not None:
        try:
            parts["scheduler"] = Scheduler.from_config(loaded.scheduler_config)
        except ModelError as error:
            raise ModelError(f"{loaded.path}: {error}") from None
    if loaded.safety_checker and "safety_checker" not in given:
        parts["safety_checker"] = load_checker(loaded.safety_checker, dtype)
    if loaded.feature_extractor and "feature_extractor" not in given:
        parts["feature_extractor"] = load_feature_extractor(loaded.feature_extractor)
    parts |= {"requires_safety_checker": loaded.requires_safety_checker, **given}
    for name in ("unet", "vae", "scheduler"):
        if parts.get(name) is None:
            advice = "name one with --vae or `vae=`" if name == "vae" else "give a complete checkpoint"
            raise ModelError(f"{loaded.path}: has no {name}, which every edit needs; {advice}")
    return parts


def load_vae(path: Path, dtype: torch.dtype) -> VAE:
    """The autoencoder of a file, of its own folder, or of a whole model's. Raises ModelError when there is none."""
    from ..weights import load_networks

    skip = tuple(name for name in PARTS if name != "vae")
    loaded = load_networks(path, dtype=dtype, skip=skip)
    if loaded.vae is None:
        raise ModelError(f"{path}: holds no autoencoder; name a VAE file, its folder, or a model that has one")
    return loaded.vae


def save_parts(
    pipeline: StableDiffusionImg2ImgPipeline, folder: str | os.PathLike[str], options: Mapping[str, Any]
) -> None:
    """Writes every part that the pipeline has under `folder`, in the diffusers layout."""
    from ..weights.write.save import save_components

    _refuse_unknown(options, ("variant", "max_shard_size", "safe_serialization"))
    if options.get("safe_serialization") is False:
        raise UsageError("safe_serialization=False would write pickles; only safetensors are written")
    kept = {name: value for name, value in options.items() if name != "safe_serialization"}
    save_components(Path(folder), pipeline.components, requires_safety_checker=pipeline.requires_safety_checker, **kept)


def _among(options: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: options[name] for name in names if name in options}


def _refuse_unknown(options: Mapping[str, Any], known: tuple[str, ...]) -> None:
    if "original_config" in options:
        raise UsageError("`original_config` is not read; give `config=` (a diffusers folder) or `prediction_type=`")
    for name in options:
        if name not in known:
            raise UsageError(f"no option `{name}`{did_you_mean(name, known)}; expected some of {', '.join(known)}")
