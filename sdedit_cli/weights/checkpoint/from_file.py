"""What a single weights file is: its family, its components with their configs, and where each tensor comes from.

Everything is told from names and shapes of tensors, never from the file's name.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from ...configs.base import read_json
from ...configs.clip import CLIPTextConfig
from ...configs.unet import UNetConfig
from ...configs.vae import TinyVAEConfig, VAEConfig
from ...errors import ModelError
from ...names import ldm
from ...names.older import is_harmless, module_name
from ...names.table import LEAVES, Origin, Table, modules, origins
from ...names.text import clip_table, openclip_table
from ...names.unet import unet_table
from ...names.vae import vae_table
from ..formats.source import WeightSource
from ..load.fill import listed
from . import infer
from .index import FILE
from .infer import FAMILIES, Family, Shapes
from .layouts import Component, Place, find_places, folder_name, looks_like, restored
from .prediction import Training, find_training

Config = UNetConfig | VAEConfig | TinyVAEConfig | CLIPTextConfig

COMPONENT_WORDS: dict[Component, str] = {
    "unet": "UNet",
    "vae": "VAE",
    "tiny_vae": "tiny VAE",
    "text_encoder": "text encoder",
    "text_encoder_2": "second text encoder",
}
OUR_LAYOUTS = ("diffusers", "clip")
# A file that we wrote says here what the shapes of an unusual model would not tell: configs as JSON, by component.
CONFIGS_KEY = "sdedit.configs"
_TASKS = {4: "", 5: "depth to image", 7: "upscaling", 8: "instruct-pix2pix", 9: "inpainting"}


@dataclass(frozen=True)
class Part:
    """A component of a file: its config, and where each of its tensors, by our name, comes from.

    `table` pairs LDM's names (without a prefix) and ours; `unknown` are names at its place that fit nowhere.
    """

    place: Place
    config: Config
    table: Table
    origins: Mapping[str, Origin]
    unknown: tuple[str, ...]


@dataclass(frozen=True)
class Detected:
    """What a file is. `dropped` are the names that no component needs."""

    family: Family
    parts: Mapping[Component, Part]
    training: Training
    has_ema: bool
    uses_ema: bool
    dropped: tuple[str, ...]

    @property
    def tells_family(self) -> bool:
        return tells_family(self.parts)

    @property
    def task(self) -> str:
        return _task({name: part.config for name, part in self.parts.items()})

    @property
    def title(self) -> str:
        return title(self.family, {name: part.config for name, part in self.parts.items()}, self.uses_ema)

    @property
    def complete(self) -> bool:
        return is_complete(self.parts)


def is_complete(components: Collection[Component]) -> bool:
    """Whether UNet, VAE and a text encoder are all there."""
    return {"unet", "vae"} <= set(components) and bool({"text_encoder", "text_encoder_2"} & set(components))


def tells_family(components: Collection[Component]) -> bool:
    """A VAE alone does not: those of 1.x, 2.x and XL have the same shapes."""
    return bool({"unet", "text_encoder", "text_encoder_2"} & set(components))


def title(family: Family, configs: Mapping[Component, Config], uses_ema: bool = False) -> str:
    """A kind of model in words: 'Stable Diffusion 1.x, inpainting', 'VAE only'."""
    task = _task(configs)
    words = [family.title] if tells_family(configs) else []
    words += [task] if task else []
    words += ["UNet from the EMA copy"] if uses_ema else []
    if not is_complete(configs):
        words.append(" and ".join(COMPONENT_WORDS[name] for name in configs) + " only")
    return ", ".join(words)


def _task(configs: Mapping[Component, Config]) -> str:
    """What the UNet was made for, '' for text to image."""
    unet = configs.get("unet")
    if not isinstance(unet, UNetConfig):
        return ""
    return _TASKS.get(unet.in_channels, f"a task with {unet.in_channels} channels")


def detect(
    source: WeightSource, *, prediction_type: str | None = None, config: Path | None = None, ema: bool = False
) -> Detected:
    """What `source`, an opened single file, holds.

    Args:
        source: Read for names and shapes only.
        prediction_type: What the UNet predicts, where the caller knows it.
        config: A folder in diffusers layout whose configs replace what shapes tell.
        ema: Take the UNet's weights from the averaged copy that training keeps; where it is the only one, it is taken.

    Raises:
        ModelError: The file is none of Stable Diffusion's, and says what it looks like; or has no EMA copy.
    """
    stored = {name: source.shape(name) for name in source.names()}
    shapes, places, copies = stored, find_places(stored), restored(stored)
    if copies and "unet" not in places:  # the copy is the only UNet there is
        shapes = {**stored, **{name: stored[copy] for name, copy in copies.items()}}
        places = find_places(shapes)
        ema = ema or "unet" in places
    if not places:
        raise ModelError(f"{source.path}: {looks_like(list(stored))}")
    if ema and not copies:
        raise ModelError(f"{source.path}: has no EMA copy of the UNet; leave --ema out")
    if config is not None:
        check_config_folder(config)
    try:
        family = _family(shapes, places)
        told = _told_configs(source.metadata)
        parts: dict[Component, Part] = {}
        for name, place in places.items():
            chosen = _read_config(config, name) or told.get(name)
            parts[name] = _part(shapes, place, family, chosen, ema)
        _check_copy(parts, stored)
    except ModelError as error:
        raise ModelError(f"{source.path}: {error}") from None
    training = find_training(
        family.name,
        path=source.path,
        metadata=source.metadata,
        names=stored,
        extras=getattr(source, "extras", None),
        prediction_type=prediction_type,
        config=config,
    )
    kept = {name for part in parts.values() for o in part.origins.values() for name in o.sources}
    kept.update(name for part in parts.values() for name in part.unknown)
    return Detected(family, parts, training, bool(copies), ema, tuple(name for name in stored if name not in kept))


def _check_copy(parts: Mapping[Component, Part], stored: Shapes) -> None:
    missing = [
        name for part in parts.values() for o in part.origins.values() for name in o.sources if name not in stored
    ]
    if missing:
        raise ModelError(
            f"its EMA copy of the UNet is incomplete, {len(missing)} tensors are missing ({listed(missing)}); leave "
            "--ema out, or convert with --no-ema"
        )


def _family(shapes: Shapes, places: Mapping[Component, Place]) -> Family:
    unet, text = places.get("unet"), places.get("text_encoder")
    if "text_encoder_2" in places:
        return FAMILIES["sdxl" if text else "sdxl_refiner"]
    if unet is None:
        return FAMILIES["sd2" if text and text.layout == "openclip" else "sd1"]
    inner = _inside(shapes, unet)
    width, linear = infer.text_width(inner, unet.layout), infer.linear_projection(inner, unet.layout)
    if "label_emb.0.0.weight" in inner or "add_embedding.linear_1.weight" in inner:
        if width <= 1024 and text is not None:
            raise ModelError("is an unCLIP model, which takes a picture's embedding; give an ordinary checkpoint")
        return FAMILIES["sdxl_refiner" if width == 1280 else "sdxl"]
    if text is not None and text.layout == "openclip":
        return FAMILIES["sd2"]
    return FAMILIES["sd2" if linear else "sd1"]


def _inside(shapes: Shapes, place: Place) -> dict[str, tuple[int, ...]]:
    cut = len(place.prefix)
    return {name[cut:]: shape for name, shape in shapes.items() if name.startswith(place.prefix)}


def _part(shapes: Shapes, place: Place, family: Family, config: Config | None, ema: bool) -> Part:
    inner = _inside(shapes, place)
    kind = _KINDS[place.component]
    chosen = config or kind.infer(inner, place, family)
    table = kind.table(chosen, place)
    found = own_names(inner, table) if place.layout in OUR_LAYOUTS else origins(table, inner)
    used = {name for origin in found.values() for name in origin.sources}
    # Without a prefix of its own the file may hold anything beside the component: that is dropped, and reported.
    unknown = [name for name in inner if not place.is_bare and name not in used and not _expected(name, place)]
    return Part(
        place,
        chosen,
        table,
        {name: _at(origin, place, ema) for name, origin in found.items()},
        tuple(place.prefix + name for name in unknown),
    )


def own_names(inner: Shapes, table: Table) -> dict[str, Origin]:
    """Our names, from files that use them already, in their older spellings too."""
    known = {name + leaf.ours for name in modules(table) for leaf in LEAVES["same"]}
    if not known:
        return {name: Origin((name,)) for name in inner}
    # The VAE's attention was made of 1x1 convolutions here too, once: what it is written as is one shape.
    convolved = {f"{name}.weight" for pair in table if pair.rule == "conv1x1" for name in pair.ours}
    current = {module_name(name, known): name for name in inner}
    return {
        name: Origin((old,), "squeeze" if name in convolved else "same")
        for name, old in current.items()
        if name in known
    }


def _expected(name: str, place: Place) -> bool:
    """Whether a name is at home at this place although nothing of ours comes from it."""
    if place.layout == "openclip":
        return name.startswith(("logit_scale", "text_projection", "attn_mask", "transformer.resblocks.23."))
    return is_harmless(name) or name.startswith("loss.")


def _at(origin: Origin, place: Place, ema: bool) -> Origin:
    names = tuple(place.prefix + name for name in origin.sources)
    if ema and place.component == "unet":
        names = tuple(ldm.ema_name(ldm.UNET + name) for name in origin.sources)
    return Origin(names, origin.operation, origin.part, origin.parts)


@dataclass(frozen=True, slots=True)
class _Kind:
    """How a component's config is found and its table made."""

    read: Callable[[Mapping[str, Any], str], Config]
    infer: Callable[[Shapes, Place, Family], Config]
    table: Callable[[Any, Place], Table]


def _text_table(config: CLIPTextConfig, place: Place) -> Table:
    second = place.component == "text_encoder_2"
    return openclip_table(config, second) if place.layout == "openclip" else clip_table(config, second)


_KINDS: dict[Component, _Kind] = {
    "unet": _Kind(UNetConfig.from_dict, infer.infer_unet, lambda config, _: unet_table(config)),
    "vae": _Kind(VAEConfig.from_dict, infer.infer_vae, lambda config, _: vae_table(config)),
    "tiny_vae": _Kind(TinyVAEConfig.from_dict, infer.infer_tiny_vae, lambda config, _: ()),
    "text_encoder": _Kind(CLIPTextConfig.from_dict, infer.infer_text, _text_table),
    "text_encoder_2": _Kind(CLIPTextConfig.from_dict, infer.infer_text, _text_table),
}


# What a folder that is given as --config may have: of some of it, the rest comes from shapes and the family.
_CONFIGS = ("unet/config.json", "vae/config.json", "text_encoder/config.json", str(FILE), "tokenizer")


def check_config_folder(folder: Path) -> None:
    """Raises ModelError for a folder that says nothing of a model."""
    if not folder.is_dir():
        raise ModelError(f"the config folder {folder} is not there; expected a folder in diffusers layout")
    if not any((folder / name).exists() for name in _CONFIGS):
        raise ModelError(f"the config folder {folder} has none of {', '.join(_CONFIGS)}; expected a model's folder")


def _read_config(folder: Path | None, component: Component) -> Config | None:
    if folder is None:
        return None
    path = folder / folder_name(component) / "config.json"
    return _KINDS[component].read(read_json(path), str(path)) if path.is_file() else None


def _told_configs(metadata: Mapping[str, str]) -> dict[Component, Config]:
    if CONFIGS_KEY not in metadata:
        return {}
    try:
        told: object = json.loads(metadata[CONFIGS_KEY])
    except (ValueError, RecursionError):
        told = None
    configs = cast("dict[str, object]", told) if isinstance(told, dict) else None
    if configs is None or not all(name in _KINDS and isinstance(config, dict) for name, config in configs.items()):
        raise ModelError(f"its metadata '{CONFIGS_KEY}' holds no configs; convert the model again")
    read = {name: cast("dict[str, Any]", config) for name, config in configs.items()}
    return {name: kind.read(read[name], CONFIGS_KEY) for name, kind in _KINDS.items() if name in read}
