"""A model as a folder with weights in Flax's format, which the reference's retired JAX pipelines load.

Names and layouts are Flax's: see `checkpoint.in_flax`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from ..checkpoint.checkpoint import Checkpoint
from ..checkpoint.components import KINDS
from ..checkpoint.in_flax import component_in_flax, in_flax
from ..checkpoint.index import FILE, NATIVE_SIZE, SCHEDULER
from ..formats.source import MemorySource
from .diffusers import LAYOUT_VERSION, json_text
from .files import OutputFile, write_files
from .safetensors import items_of

_FILES = {"unet": "diffusion_flax_model", "vae": "diffusion_flax_model", "text_encoder": "flax_model"}
_NOTHING = [None, None]


def save_flax(
    folder: Path,
    checkpoint: Checkpoint,
    checker: tuple[Mapping[str, Any], Mapping[str, Tensor]] | None,
    feature_extractor: Mapping[str, Any] | None,
) -> None:
    """Writes a checkpoint under `folder`. Files of an earlier save are replaced.

    `checker` is the safety checker's config and tensors, `feature_extractor` what its preprocessor_config.json says.

    Raises OutputError when something cannot be written.
    """
    files: list[OutputFile] = []
    said: dict[str, Any] = {"_class_name": "FlaxStableDiffusionImg2ImgPipeline", "_diffusers_version": LAYOUT_VERSION}
    for slot, component in checkpoint.components.items():
        kind, config = component.kind, component.config.to_dict()
        said[slot] = [kind.library, f"Flax{kind.classes[0]}"]
        if "_class_name" in config:
            config["_class_name"] = said[slot][1]
        files.append(OutputFile(f"{slot}/config.json", text=json_text(config)))
        files.append(OutputFile(f"{slot}/{_FILES[slot]}.msgpack", items_of(component_in_flax(component))))
    for slot, tokenizer in checkpoint.tokenizers.items():
        place = KINDS[slot].tokenizer
        said[place] = ["transformers", "CLIPTokenizer"]
        files += [OutputFile(f"{place}/{name}", text=text) for name, text in tokenizer.contents().items()]
    if checkpoint.scheduler is not None:
        name = f"Flax{checkpoint.scheduler['_class_name']}"
        said["scheduler"] = ["diffusers", name]
        files.append(OutputFile(SCHEDULER.as_posix(), text=json_text({**checkpoint.scheduler, "_class_name": name})))
    said |= {"safety_checker": _NOTHING, "feature_extractor": _NOTHING}
    if checker is not None and feature_extractor is not None:
        said["safety_checker"] = ["stable_diffusion", "FlaxStableDiffusionSafetyChecker"]
        said["feature_extractor"] = ["transformers", "CLIPImageProcessor"]
        files += _checker_files(*checker)
        path = "feature_extractor/preprocessor_config.json"
        files.append(OutputFile(path, text=json_text(feature_extractor)))
    if checkpoint.native_size is not None:
        said[NATIVE_SIZE] = checkpoint.native_size
    write_files(folder, [OutputFile(FILE, text=json_text(said)), *files], replace=True)


def _checker_files(config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> list[OutputFile]:
    # The tower is a module of a module of the same name.
    source = in_flax(
        MemorySource(tensors), lambda module: module.replace("vision_model", "vision_model.vision_model", 1)
    )
    return [
        OutputFile("safety_checker/config.json", text=json_text(config)),
        OutputFile("safety_checker/flax_model.msgpack", items_of(source)),
    ]
