"""A folder in diffusers layout as a Checkpoint: a whole model's, or that of one component."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...configs.base import read_json
from ...configs.clip import CLIPTextConfig
from ...configs.unet import UNetConfig
from ...errors import ModelError, shown
from ...names.older import current_names, is_harmless
from ...names.table import flax, origins
from ..formats.open import open_weights
from .checkpoint import Checkpoint, Component
from .components import EXTRAS, KINDS, SLOTS, Config, Kind, kind_of
from .families import OPENCLIP, Family, Traits, family_of
from .from_file import writable
from .index import FILE, SCHEDULER, Index, has_scheduler, read_index
from .layouts import Slot
from .prediction import Evidence, find_prediction
from .renamed import Renamed
from .tokenizers import TokenizerFiles
from .weight_files import find_weights, is_variant


@dataclass(frozen=True)
class _Found:
    """A component's folder, what kind it is of, and its config with the file that says it."""

    folder: Path
    kind: Kind
    config: Config
    config_path: Path


def read_folder(
    folder: Path,
    *,
    config: Path | None = None,
    prediction_type: str | None = None,
    variant: str | None = None,
    use_safetensors: bool | None = None,
    skip: Collection[str] = (),
) -> Checkpoint:
    """What a model folder holds, or the folder of one component.

    Args:
        folder: Its configs and the names and shapes of its tensors are read.
        config: A folder whose configs, scheduler and tokenizer count in place of those in `folder`.
        prediction_type: What the UNet predicts, where the scheduler's file should not say.
        variant: Take these weights ('fp16') where a component has them.
        use_safetensors: Take only safetensors (True) or none (False).
        skip: Parts that the caller brings: they are not looked at.

    Raises:
        ModelError: The folder is none of a model, has a broken config, or no component has the variant.
    """
    alone = (folder / "config.json").is_file() and not (folder / FILE).is_file()
    index = Index({}) if alone else read_index(folder)
    found, missing = _of_component(folder, config, skip) if alone else _of_model(folder, config, index, skip)
    if variant is not None and found and not any(_has_variant(part.folder, variant) for part in found.values()):
        raise ModelError(
            f"{folder}: no component has weights of the variant '{variant}'; leave it out or check its name"
        )
    try:
        second = "text_encoder_2" in index.classes
        family = family_of(traits({slot: part.config for slot, part in found.items()}, has_second=second))
    except ModelError as error:
        raise ModelError(f"{folder}: {error}") from None
    components: dict[Slot, Component] = {
        slot: _component(part, variant, use_safetensors) for slot, part in found.items()
    }
    metadata = writable({k: v for part in components.values() for k, v in part.tensors.metadata.items()})
    places = [place for place in (config, folder) if place and "scheduler" not in skip]
    configured = next(filter(has_scheduler, places), None)
    evidence = Evidence(metadata=metadata)
    prediction, scheduler = find_prediction(family, evidence, asked=prediction_type, configured=configured)
    return Checkpoint(
        path=folder,
        format="diffusers folder",
        family=family,
        components=components,
        prediction=prediction,
        scheduler=scheduler if configured or "unet" in components else None,
        tokenizers={} if alone or "tokenizer" in skip else _tokenizers(folder, config, index, components, family),
        metadata=metadata,
        native_size=index.native_size,
        block=index.block,
        extras={name: folder / name for name in EXTRAS if name in index.classes and (folder / name).is_dir()},
        requires_safety_checker=index.requires_safety_checker,
        dropped=tuple(name for name in EXTRAS if (folder / name).is_dir()),
        missing=missing,
        scheduler_file=configured and configured / SCHEDULER,
    )


_FoundBySlot = dict[Slot, _Found]


def _of_component(folder: Path, config: Path | None, skip: Collection[str]) -> tuple[_FoundBySlot, tuple[str, ...]]:
    part = _read(folder, config, None, "")
    return ({part.kind.slot: part} if part.kind.slot not in skip else {}), ()


def _of_model(
    folder: Path, config: Path | None, index: Index, skip: Collection[str]
) -> tuple[_FoundBySlot, tuple[str, ...]]:
    """The components that are there, and the files that the index speaks of and are not."""
    if "transformer" in index.classes and not {"unet"} & {*index.classes, *skip}:
        raise ModelError(
            f"{folder}: is a model of {shown(index.pipeline) or 'another kind'}, with a transformer in place of a "
            "UNet; give a Stable Diffusion 1.x or 2.x checkpoint"
        )
    meant: list[Slot] = [slot for slot in SLOTS if slot in index.classes and slot not in skip]
    found: _FoundBySlot = {
        slot: _read(folder / slot, config, slot, index.classes[slot])
        for slot in meant
        if (folder / slot / "config.json").is_file()
    }
    missing = [f"{slot}/config.json" for slot in meant if slot not in found]
    if "scheduler" in index.classes and "scheduler" not in skip and not has_scheduler(folder):
        missing.append(SCHEDULER.as_posix())
    if not found and not missing and not skip:
        raise ModelError(f"{folder}: has none of {', '.join(SLOTS)}; expected a Stable Diffusion model")
    return found, tuple(missing)


def _read(folder: Path, given: Path | None, slot: Slot | None, listed: str) -> _Found:
    own = folder / "config.json"
    kind = kind_of(read_json(own), own, slot, listed)
    path = given / kind.slot / "config.json" if given else own
    if path != own and path.is_file():
        data = read_json(path)
        kind = kind_of(data, path, kind.slot)
    else:
        data, path = read_json(own), own
    return _Found(folder, kind, kind.config.from_dict(data, str(path)), path)


def _has_variant(folder: Path, variant: str) -> bool:
    return any(is_variant(path, variant) for path in folder.glob("*"))


def traits(configs: Mapping[Slot, Config], *, has_second: bool = False) -> Traits:
    """What tells the family of a model with these configs; `has_second`: it is said to have a second text encoder."""
    unet, text = configs.get("unet"), configs.get("text_encoder")
    naming = (OPENCLIP if is_openclip(text) else "clip") if text is not None else ""
    second = has_second or "text_encoder_2" in configs
    if not isinstance(unet, UNetConfig):
        return Traits(naming, second)
    added = unet.addition_embed_type == "text_time"
    width: Any = unet.cross_attention_dim
    return Traits(naming, second, width if isinstance(width, int) else 0, unet.use_linear_projection, added)


def is_openclip(config: Config | None) -> bool:
    """Whether a text encoder is written under OpenCLIP's names."""
    # OpenCLIP's naming stands for its activation: readers of LDM files tell one from the other.
    return isinstance(config, CLIPTextConfig) and config.hidden_act == "gelu"


def _component(part: _Found, variant: str | None, use_safetensors: bool | None) -> Component:
    openclip = is_openclip(part.config)
    table = part.kind.table(part.config, openclip)
    source = open_weights(find_weights(part.folder, variant, use_safetensors))
    names = source.names()
    from_flax = any(name.endswith(".kernel") for name in names)
    tensors = Renamed(source, origins(flax(table), names) if from_flax else current_names(names, table))
    used = tensors.source_names()
    unknown = tuple(name for name in names if name not in used and not is_harmless(name))
    return Component(part.kind, part.config, tensors, unknown, openclip=openclip, said_by=str(part.config_path))


def _tokenizers(
    folder: Path, given: Path | None, index: Index, components: Mapping[Slot, Component], family: Family
) -> dict[Slot, TokenizerFiles]:
    found: dict[Slot, TokenizerFiles] = {}
    for kind in (kind for kind in KINDS.values() if kind.tokenizer):
        component = components.get(kind.slot)
        places = [place / kind.tokenizer for place in (given, folder) if place is not None]
        own = next((place for place in places if place.is_dir()), None)
        if own or component or (kind.slot == "text_encoder" and "text_encoder" in index.classes):
            padding = family.padding.get(kind.slot, family.padding["text_encoder"])
            text = component.text if component else None
            found[kind.slot] = TokenizerFiles(folder / kind.tokenizer, padding, text, own)
    return found
