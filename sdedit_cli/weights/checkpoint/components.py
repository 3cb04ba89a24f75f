"""KINDS: one row for each kind of component that has weights of ours; EXTRAS: what a model folder may have besides."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from ...configs.clip import CLIPTextConfig
from ...configs.unet import UNetConfig
from ...configs.vae import TinyVAEConfig, VAEConfig
from ...errors import ModelError, shown
from ...names.table import Table
from ...names.text import clip_table, openclip_table
from ...names.unet import unet_table
from ...names.vae import vae_table
from . import infer
from .families import Family
from .layouts import KindName, Place, Shapes, Slot

Config = UNetConfig | VAEConfig | TinyVAEConfig | CLIPTextConfig


@dataclass(frozen=True, slots=True)
class Kind:
    """What is known of a kind of component.

    `slot` is its folder; `classes` are the names that its config.json may give, the first of them is written, with
    `library` as the one that has it; `table` makes LDM's names (or OpenCLIP's) for its modules from a config; `stem`
    begins the name of its weights file; `tokenizer` is the folder of the one that belongs to it.
    """

    name: KindName
    slot: Slot
    words: str
    classes: tuple[str, ...]
    config: type[Config]
    infer: Callable[[Shapes, Place, Family], Config]
    table: Callable[[Any, bool], Table]
    library: str = "diffusers"
    stem: str = "diffusion_pytorch_model"
    tokenizer: str = ""


def _text(slot: Slot, words: str, classes: tuple[str, ...], tokenizer: str, *, projection: bool) -> Kind:
    def table(config: CLIPTextConfig, openclip: bool) -> Table:
        return (openclip_table if openclip else clip_table)(config, projection)

    return Kind(slot, slot, words, classes, CLIPTextConfig, infer.infer_text, table, "transformers", "model", tokenizer)


_UNET, _VAE, _TINY_VAE = ("UNet2DConditionModel",), ("AutoencoderKL",), ("AutoencoderTiny",)
_CLIP, _CLIP_PROJECTED = "CLIPTextModel", "CLIPTextModelWithProjection"
_ROWS = (
    Kind("unet", "unet", "UNet", _UNET, UNetConfig, infer.infer_unet, lambda config, _: unet_table(config)),
    Kind("vae", "vae", "VAE", _VAE, VAEConfig, infer.infer_vae, lambda config, _: vae_table(config)),
    Kind("tiny_vae", "vae", "tiny VAE", _TINY_VAE, TinyVAEConfig, infer.infer_tiny_vae, lambda _c, _o: ()),
    _text("text_encoder", "text encoder", (_CLIP, _CLIP_PROJECTED), "tokenizer", projection=False),
    _text("text_encoder_2", "second text encoder", (_CLIP_PROJECTED,), "tokenizer_2", projection=True),
)
KINDS: dict[KindName, Kind] = {kind.name: kind for kind in _ROWS}
SLOTS: tuple[Slot, ...] = tuple(dict.fromkeys(kind.slot for kind in KINDS.values()))
# Parts of a model folder that have no weights of ours, and what model_index.json says of them.
EXTRAS: Mapping[str, tuple[str, str]] = {
    "safety_checker": ("stable_diffusion", "StableDiffusionSafetyChecker"),
    "feature_extractor": ("transformers", "CLIPImageProcessor"),
    "image_encoder": ("transformers", "CLIPVisionModelWithProjection"),
}
_MODEL_TYPES = {"clip_text_model": _CLIP}  # all that some configs of transformers say


def kind_of(data: Mapping[str, Any], path: Path, slot: Slot | None = None, listed: str = "") -> Kind:
    """The kind of component that a config.json describes: of those of a `slot`, or of any by itself.

    `listed` is the class that the model's index names, for a config that names none. Raises ModelError for a class
    that is none of ours.
    """
    kinds = [kind for kind in KINDS.values() if slot in (None, kind.slot)]
    named = _names(data) or ([listed] if listed else [])
    if not named and slot and "_class_name" not in data:
        return kinds[0]
    # A second text encoder's class also names first ones that keep their projection: alone it is the second.
    by_class = {name: kind for kind in kinds for name in kind.classes}
    found = next((by_class[name] for name in map(plain_class, named) if name in by_class), None)
    if found is None:
        said = next((shown(name) for name in named if name), "no class")
        raise ModelError(f"{path}: names {said}, expected one of {', '.join(by_class)}")
    return found


def is_of(kind: Kind, data: Mapping[str, Any]) -> bool:
    """Whether a config.json names a class of this kind."""
    return any(plain_class(name) in kind.classes for name in _names(data))


def plain_class(name: str) -> str:
    """The name of a class without what tells that its weights are Flax's."""
    return name.removeprefix("Flax")


def _names(data: Mapping[str, Any]) -> list[str]:
    architectures: object = data.get("architectures")
    listed = cast("list[object]", architectures) if isinstance(architectures, list) else []
    model_type: object = data.get("model_type")
    words = [data.get("_class_name"), *listed, _MODEL_TYPES.get(model_type) if isinstance(model_type, str) else None]
    return [word for word in words if isinstance(word, str)]
