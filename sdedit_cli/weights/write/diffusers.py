"""A model as a folder in diffusers layout: configs, tokenizer, scheduler, index, and the weights in shards."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, cast

import torch

from ...configs.clip import CLIPTextConfig
from ...text import Tokenizer
from ..checkpoint.from_file import CONFIGS_KEY
from ..checkpoint.from_folder import Model, read_text
from ..checkpoint.layouts import Component, folder_name
from ..checkpoint.native_size import INDEX_KEY, METADATA_KEY, native_size
from ..checkpoint.prediction import SCHEDULER_KEY
from ..checkpoint.tokenizers import TOKENIZER_FILES, TOKENIZER_KEY, family_tokenizer, told_tokenizer_files
from .safetensors import Item, OutputFile, in_shards, item

_STEMS: dict[Component, str] = {
    "unet": "diffusion_pytorch_model",
    "vae": "diffusion_pytorch_model",
    "tiny_vae": "diffusion_pytorch_model",
    "text_encoder": "model",
    "text_encoder_2": "model",
}
_CLASSES: dict[Component, tuple[str, str]] = {
    "unet": ("diffusers", "UNet2DConditionModel"),
    "vae": ("diffusers", "AutoencoderKL"),
    "tiny_vae": ("diffusers", "AutoencoderTiny"),
    "text_encoder": ("transformers", "CLIPTextModel"),
    "text_encoder_2": ("transformers", "CLIPTextModelWithProjection"),
}
_TOKENIZERS: dict[Component, str] = {"text_encoder": "tokenizer", "text_encoder_2": "tokenizer_2"}
_PIPELINES = {
    "sd1": "StableDiffusionPipeline",
    "sd2": "StableDiffusionPipeline",
    "sdxl": "StableDiffusionXLPipeline",
    "sdxl_refiner": "StableDiffusionXLImg2ImgPipeline",
}
_NOTHING = [None, None]
_OF_FILES = (TOKENIZER_KEY, CONFIGS_KEY, SCHEDULER_KEY, METADATA_KEY)


def folder_files(
    model: Model, dtype: torch.dtype | None, only: Component | None, max_shard_size: int, *, single: bool
) -> list[OutputFile]:
    """Every file of the folder; with `only` those of a component's own folder, with `single` its weights file alone."""
    if only is not None or len(model.pieces) == 1:
        component = only or next(iter(model.pieces))
        if single:
            items = _items(model, component, dtype)
            return [OutputFile("", items, _metadata(model))]
        return list(_component_files(model, component, "", dtype, max_shard_size))
    files = [OutputFile("model_index.json", text=_json(_index(model)))]
    for component in model.pieces:
        files += _component_files(model, component, f"{folder_name(component)}/", dtype, max_shard_size)
        if component in _TOKENIZERS:
            files += _tokenizer_files(model, component, f"{_TOKENIZERS[component]}/")
    if "unet" in model.pieces:
        files.append(OutputFile("scheduler/scheduler_config.json", text=_json(model.training.scheduler)))
    return files


def _items(model: Model, component: Component, dtype: torch.dtype | None) -> tuple[Item, ...]:
    tensors = model.pieces[component].tensors
    return tuple(item(name, tensors, name, dtype) for name in tensors.names())


def _metadata(model: Model) -> dict[str, str]:
    # What a folder says in files of its own need not be in the metadata as well.
    return {key: value for key, value in model.metadata.items() if key not in _OF_FILES}


def _component_files(
    model: Model, component: Component, place: str, dtype: torch.dtype | None, max_shard_size: int
) -> Iterator[OutputFile]:
    config = model.pieces[component].config.to_dict()
    if component == "text_encoder_2":
        config["architectures"] = [_CLASSES[component][1]]
    items, stem = _items(model, component, dtype), _STEMS[component]
    if component.startswith("text"):
        config["dtype"] = str(items[0].dtype).removeprefix("torch.")
    yield OutputFile(f"{place}config.json", text=_json(config))
    metadata = _metadata(model) if component == "unet" or len(model.pieces) == 1 else {}
    shards = in_shards(items, max_shard_size)
    if len(shards) == 1:
        yield OutputFile(f"{place}{stem}.safetensors", items, metadata)
        return
    weight_map: dict[str, str] = {}
    for number, shard in enumerate(shards, 1):
        name = f"{stem}-{number:05d}-of-{len(shards):05d}.safetensors"
        weight_map |= {i.name: name for i in shard}
        yield OutputFile(place + name, tuple(shard), metadata)
    index = {"metadata": {"total_size": sum(i.nbytes for i in items)}, "weight_map": weight_map}
    yield OutputFile(f"{place}{stem}.safetensors.index.json", text=_json(index))


def _index(model: Model) -> dict[str, Any]:
    index: dict[str, Any] = {"_class_name": _PIPELINES[model.family.name]}
    names: tuple[Component, ...] = ("text_encoder", "text_encoder_2") if _is_xl(model) else ("text_encoder",)
    for component in names:
        there = component in model.pieces
        index[component] = list(_CLASSES[component]) if there else _NOTHING
        index[_TOKENIZERS[component]] = ["transformers", "CLIPTokenizer"] if there else _NOTHING
    for component in ("unet", "vae", "tiny_vae"):
        if component in model.pieces:
            index[folder_name(component)] = list(_CLASSES[component])
    index["scheduler"] = ["diffusers", model.training.scheduler["_class_name"]]
    if (size := native_size(model.path)) is not None:
        index[INDEX_KEY] = size
    index["feature_extractor"] = _NOTHING
    index["image_encoder"] = _NOTHING
    if _is_xl(model):
        index["force_zeros_for_empty_prompt"] = model.family.name == "sdxl"
    else:
        index |= {"safety_checker": _NOTHING, "requires_safety_checker": False}
    if model.family.name == "sdxl_refiner":
        index["requires_aesthetics_score"] = True
    return index


def _is_xl(model: Model) -> bool:
    return model.family.name.startswith("sdxl")


def _tokenizer_files(model: Model, component: Component, place: str) -> list[OutputFile]:
    own = model.tokenizer_folder(_TOKENIZERS[component])
    if own is not None:
        Tokenizer.from_folder(own)  # a broken one would make a model that nothing can run
        found = [own / name for name in TOKENIZER_FILES if (own / name).is_file()]
        return [OutputFile(place + path.name, text=read_text(path)) for path in found]
    if TOKENIZER_KEY in model.metadata and component == "text_encoder":
        files = told_tokenizer_files(model.path, model.metadata[TOKENIZER_KEY])
        return [OutputFile(place + name, text=content) for name, content in files.items()]
    text = cast(CLIPTextConfig, model.pieces[component].config)
    # The second tokenizer of XL pads as that of 2.x: both belong to OpenCLIP.
    padded = model.family.name == "sd2" or component == "text_encoder_2"
    tokenizer = family_tokenizer(model.path, text, padded)
    return [OutputFile(place + name, text=content) for name, content in tokenizer.folder_files().items()]


def _json(data: Mapping[str, Any]) -> str:
    return json.dumps(data, indent=2, sort_keys=True) + "\n"
