"""load_folder: every component of a model in diffusers layout."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from ...configs.base import read_json
from ...configs.clip import CLIPTextConfig
from ...configs.unet import UNetConfig
from ...configs.vae import TinyVAEConfig, VAEConfig
from ...errors import ModelError, shown
from ...names.table import Origin, Table, flax, origins
from ...names.text import clip_table
from ...names.unet import unet_table
from ...names.vae import vae_table
from ...nn import AutoencoderKL, CLIPTextModel, TinyAutoencoder, UNet2DCondition
from ...text import Tokenizer
from ..checkpoint.index import INDEX, read_scheduler
from ..checkpoint.infer import family_of
from ..checkpoint.renamed import Renamed
from ..checkpoint.tokenizers import check_fits, packaged
from ..checkpoint.weight_files import find_weights, is_variant
from ..formats.open import open_weights
from ..formats.source import WeightSource
from .fill import Report, fill
from .garbage import paused_collector

REQUIRED = ("unet", "vae", "text_encoder", "scheduler")
WEIGHTED = ("unet", "vae", "text_encoder")


@dataclass(frozen=True)
class Components:
    """What a model folder holds. A part that it lacks, or that the caller skipped, is None.

    The safety checker, feature extractor and image encoder are folders: who needs them reads them.
    """

    folder: Path
    unet: UNet2DCondition | None = None
    vae: AutoencoderKL | TinyAutoencoder | None = None
    text_encoder: CLIPTextModel | None = None
    tokenizer: Tokenizer | None = None
    scheduler_config: Mapping[str, Any] | None = None
    safety_checker: Path | None = None
    feature_extractor: Path | None = None
    image_encoder: Path | None = None
    requires_safety_checker: bool = True
    report: Report = field(default_factory=Report)


@dataclass(frozen=True)
class _Kind:
    """How to build one class of component that config.json names."""

    part: str
    config: Callable[[Mapping[str, Any], str], Any]
    module: Callable[[Any], nn.Module]


_KINDS: dict[str, _Kind] = {
    "UNet2DConditionModel": _Kind("unet", UNetConfig.from_dict, UNet2DCondition),
    "AutoencoderKL": _Kind("vae", VAEConfig.from_dict, AutoencoderKL),
    "AutoencoderTiny": _Kind("vae", TinyVAEConfig.from_dict, TinyAutoencoder),
    "CLIPTextModel": _Kind("text_encoder", CLIPTextConfig.from_dict, CLIPTextModel),
    "CLIPTextModelWithProjection": _Kind("text_encoder", CLIPTextConfig.from_dict, CLIPTextModel),
}

_KINDS.update({f"Flax{name}": kind for name, kind in _KINDS.items()})
_TABLES: dict[type, Callable[[Any], Table]] = {
    UNetConfig: unet_table,
    VAEConfig: vae_table,
    CLIPTextConfig: clip_table,
}


@paused_collector()
def load_folder(
    folder: Path | str,
    *,
    dtype: torch.dtype | None = None,
    variant: str | None = None,
    use_safetensors: bool | None = None,
    partial: bool = False,
    skip: Collection[str] = (),
    device: torch.device | str = "cpu",
) -> Components:
    """The components of a model folder, or the one component whose own folder this is.

    `dtype` None keeps the files' precision, `skip` names components that the caller brings. Modules come in evaluation
    mode. Raises ModelError that says which file is missing or does not fit.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ModelError(f"{folder}: no such folder; expected a model in diffusers layout (with {INDEX})")
    if not (folder / INDEX).is_file() and (folder / "config.json").is_file():
        part, module, report = load_component(
            folder, dtype=dtype, variant=variant, use_safetensors=use_safetensors, partial=partial, device=device
        )
        return Components(folder, report=Report.of_parts({part: report}), **cast("dict[str, Any]", {part: module}))
    index = _index(folder)
    check_variant(folder, variant, [part for part in WEIGHTED if part in index and part not in skip])
    modules: dict[str, Any] = {}
    reports: dict[str, Report] = {}
    for part in WEIGHTED:
        if part in index and part not in skip:
            _, modules[part], reports[part] = load_component(
                folder / part,
                dtype=dtype,
                variant=variant,
                use_safetensors=use_safetensors,
                partial=partial,
                device=device,
            )
    _check_family(folder, modules)
    scheduler = "scheduler" in index and "scheduler" not in skip
    return Components(
        folder,
        tokenizer=None if "tokenizer" in skip else _tokenizer(folder, modules),
        scheduler_config=read_scheduler(folder) if scheduler else None,
        safety_checker=_optional(folder, index, skip, "safety_checker"),
        feature_extractor=_optional(folder, index, skip, "feature_extractor"),
        image_encoder=_optional(folder, index, skip, "image_encoder"),
        requires_safety_checker=bool(index.get("requires_safety_checker", True)),
        report=Report.of_parts(reports),
        **modules,
    )


def load_component(
    folder: Path,
    *,
    dtype: torch.dtype | None = None,
    variant: str | None = None,
    use_safetensors: bool | None = None,
    partial: bool = False,
    device: torch.device | str = "cpu",
) -> tuple[str, nn.Module, Report]:
    """The component in `folder`: its part ('unet', 'vae', 'text_encoder'), the filled module, and the report."""
    config_path = folder / "config.json"
    data = read_json(config_path)
    kind = _kind(data, config_path)
    config = kind.config(data, str(config_path))
    with torch.device("meta"):
        module = kind.module(config)
    source = _ours(open_weights(find_weights(folder, variant, use_safetensors)), config)
    report = fill(module, source, dtype, device, partial, config=str(config_path))
    return kind.part, module.eval(), report


def _ours(source: WeightSource, config: Any) -> WeightSource:
    """The source under our names: Flax calls some modules and all leaves otherwise, and keeps kernels transposed."""
    names = source.names()
    if not any(name.endswith(".kernel") for name in names):
        return source
    found = origins(flax(_TABLES[type(config)](config)), names)
    used = {name for origin in found.values() for name in origin.sources}
    return Renamed(source, found | {name: Origin((name,)) for name in names if name not in used})


def _kind(data: Mapping[str, Any], path: Path) -> _Kind:
    named = _texts([data.get("_class_name")]) + _texts(data.get("architectures"))
    if data.get("model_type") == "clip_text_model":
        named.append("CLIPTextModel")
    found = next((_KINDS[name] for name in named if name in _KINDS), None)
    if found is None:
        said = next((shown(name) for name in named if name), "no class")
        known = ", ".join(name for name in _KINDS if not name.startswith("Flax"))
        raise ModelError(f"{path}: names {said}, expected one of {known}")
    return found


def _texts(value: object) -> list[str]:
    return [item for item in cast("list[object]", value) if isinstance(item, str)] if isinstance(value, list) else []


def _index(folder: Path) -> dict[str, Any]:
    """The components that are there and meant to be: name -> what the index says of them."""
    if (folder / INDEX).is_file():
        index = {name: value for name, value in read_json(folder / INDEX).items() if not _is_null(value)}
    else:
        index = {path.name: None for path in folder.iterdir() if path.is_dir()}
        if not set(index) & set(REQUIRED):
            raise ModelError(
                f"{folder}: has no {INDEX}, config.json, or folders {', '.join(REQUIRED)}; expected a model in "
                "diffusers layout.\nIf the weights are one file, name the file itself."
            )
    if "text_encoder_2" in index:
        raise ModelError(f"{folder}: is a Stable Diffusion XL model; only 1.x and 2.x can be run so far")
    return index


def _is_null(value: object) -> bool:
    return isinstance(value, list) and all(item is None for item in cast("list[object]", value))


def check_variant(folder: Path, variant: str | None, parts: Collection[str]) -> None:
    """A variant that no component has is a typo; one that some lack is how such models are published."""
    if variant is None or not parts:
        return
    if not any(is_variant(path, variant) for part in parts for path in (folder / part).glob("*")):
        raise ModelError(
            f"{folder}: no component has weights of the variant '{variant}'; leave it out or check its name"
        )


def _check_family(folder: Path, modules: Mapping[str, Any]) -> None:
    unet, vae = modules.get("unet"), modules.get("vae")
    if unet is None or vae is None:
        return
    channels, latent = unet.config.in_channels, vae.config.latent_channels
    if channels != latent:
        kind = "an inpainting model" if channels == 2 * latent + 1 else "made for another task"
        raise ModelError(
            f"{folder}: the UNet takes {channels} channels where the VAE gives {latent}: it is {kind}, "
            "expected an ordinary text-to-image checkpoint"
        )


def _tokenizer(folder: Path, modules: Mapping[str, Any]) -> Tokenizer:
    own, unet, encoder = folder / "tokenizer", modules.get("unet"), modules.get("text_encoder")
    config: CLIPTextConfig = encoder.config if encoder else CLIPTextConfig()
    if own.is_dir():
        tokenizer, whose = Tokenizer.from_folder(own, encoder and config.max_position_embeddings), "the tokenizer there"
    else:
        padded = family_of(unet.config if unet else None, config).name == "sd2"
        tokenizer, whose = packaged(config, padded), "there is none, and CLIP's own"
    if encoder:
        check_fits(tokenizer, config, f"{own}: {whose}")
    return tokenizer


def _optional(folder: Path, index: Mapping[str, Any], skip: Collection[str], part: str) -> Path | None:
    path = folder / part
    return path if part in index and part not in skip and path.is_dir() else None
