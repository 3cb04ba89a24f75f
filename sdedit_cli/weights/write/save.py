"""Write components and whole models in diffusers layout, so that other programs load them too.

Every file appears under its name when it is complete: written beside it, flushed to the disk, renamed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

from torch import Tensor, nn

from ...disk.sizes import parse_size
from ...disk.whole import staged
from ...errors import UsageError
from ..checkpoint.weight_files import file_names
from ..formats.source import MemorySource
from ..load.networks import INDEX
from .safetensors import in_shards, item, write_safetensors

LAYOUT_VERSION = "0.42.1"  # the release of diffusers whose layout this is
DEFAULT_SHARD = "10GB"

# What model_index.json says of a part: the library and class that other programs load it with.
_CLASSES: Mapping[str, tuple[str, str]] = {
    "vae": ("diffusers", "AutoencoderKL"),
    "text_encoder": ("transformers", "CLIPTextModel"),
    "tokenizer": ("transformers", "CLIPTokenizer"),
    "unet": ("diffusers", "UNet2DConditionModel"),
    "scheduler": ("diffusers", "DDIMScheduler"),
    "safety_checker": ("stable_diffusion", "StableDiffusionSafetyChecker"),
    "feature_extractor": ("transformers", "CLIPImageProcessor"),
    "image_encoder": ("transformers", "CLIPVisionModelWithProjection"),
}
_DIFFUSERS_STEM = ("unet", "vae")


def save_folder(
    folder: Path | str,
    components: Mapping[str, Any],
    *,
    requires_safety_checker: bool = True,
    variant: str | None = None,
    max_shard_size: int | str = DEFAULT_SHARD,
    pipeline_class: str = "StableDiffusionImg2ImgPipeline",
) -> Path:
    """Write the parts that are not None under `folder` with a model_index.json, and return the folder.

    A part is a module with a `config`, an object that knows its files (`folder_files`), or one that saves itself.
    Raises OutputError when something cannot be written.
    """
    folder = Path(folder)
    index: dict[str, Any] = {"_class_name": pipeline_class, "_diffusers_version": LAYOUT_VERSION}
    for part, default in _CLASSES.items():
        component = components.get(part)
        index[part] = [None, None]
        if component is not None:
            _save_part(folder / part, part, component, variant, max_shard_size)
            index[part] = [default[0], _class_name(component, default[1])]
    index["requires_safety_checker"] = requires_safety_checker
    write_json(folder / INDEX, index)
    return folder


def save_component(
    module: nn.Module,
    folder: Path | str,
    *,
    stem: str = "diffusion_pytorch_model",
    variant: str | None = None,
    max_shard_size: int | str = DEFAULT_SHARD,
) -> list[Path]:
    """Write a module's config.json and weights, in shards with an index when they are larger than `max_shard_size`
    (bytes, or text such as '5GB'). Returns the weights files. Weights of an earlier save are replaced."""
    folder = Path(folder)
    limit = parse_size(max_shard_size, "max_shard_size")
    write_json(folder / "config.json", _config_of(module))
    state = cast("dict[str, Tensor]", module.state_dict())
    source = MemorySource({name: tensor.detach().cpu() for name, tensor in state.items()}, path=folder)
    shards = in_shards([item(name, source, name, None) for name in source.names()], limit)
    plain, *indices = file_names(stem, "safetensors", variant)
    names = [plain] if len(shards) == 1 else _shard_names(stem, variant, len(shards))
    for name, shard in zip(names, shards, strict=True):
        with staged(folder / name, replace=True) as stage, stage.open() as file:
            write_safetensors(file, shard, {})
    kept = {*names}
    if len(shards) > 1:
        weight_map = {entry.name: name for name, shard in zip(names, shards, strict=True) for entry in shard}
        total = sum(entry.nbytes for shard in shards for entry in shard)
        write_json(folder / indices[0], {"metadata": {"total_size": total}, "weight_map": weight_map})
        kept.add(indices[0])
    _remove_stale(folder, stem, variant, kept)
    return [folder / name for name in names]


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write an object as JSON, complete or not at all. Raises OutputError."""
    with staged(path, replace=True) as stage:
        stage.write_text("", json.dumps(content, indent=2) + "\n")


def _save_part(folder: Path, part: str, component: Any, variant: str | None, max_shard_size: int | str) -> None:
    if isinstance(component, nn.Module) and hasattr(component, "config"):
        stem = "diffusion_pytorch_model" if part in _DIFFUSERS_STEM else "model"
        save_component(component, folder, stem=stem, variant=variant, max_shard_size=max_shard_size)
        return
    files: Callable[[], Mapping[str, str]] | None = getattr(component, "folder_files", None)
    if files is not None:
        with staged(folder, replace=True) as stage:
            for name, text in files().items():
                stage.write_text(name, text)
        return
    save = getattr(component, "save_pretrained", None)
    if save is None:
        raise UsageError(f"{part} is a {type(component).__name__}, which cannot be saved; leave it out (None)")
    save(str(folder))


def _config_of(module: nn.Module) -> dict[str, Any]:
    config: Any = module.config
    return cast("dict[str, Any]", config if isinstance(config, dict) else config.to_dict())


def _class_name(component: Any, default: str) -> str:
    config = getattr(component, "config", None)
    if isinstance(component, nn.Module):
        return str(_config_of(component).get("_class_name", default))
    return str(getattr(config, "class_name", default))


def _shard_names(stem: str, variant: str | None, count: int) -> list[str]:
    tag = f".{variant}" if variant else ""
    return [f"{stem}{tag}-{number:05d}-of-{count:05d}.safetensors" for number in range(1, count + 1)]


def _remove_stale(folder: Path, stem: str, variant: str | None, kept: set[str]) -> None:
    """Shards and whole files of an earlier save would be found first, or be left lying around."""
    tag = f".{variant}" if variant else ""
    shard = re.compile(re.escape(f"{stem}{tag}-") + r"\d{5}-of-\d{5}\.safetensors")
    for path in folder.iterdir():
        ours = path.name in file_names(stem, "safetensors", variant) or shard.fullmatch(path.name)
        if ours and path.name not in kept:
            path.unlink()
