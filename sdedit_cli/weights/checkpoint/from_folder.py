"""open_model: a checkpoint of any kind, file or folder, as components under our names, before any tensor is read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from ...configs.base import read_json
from ...configs.clip import CLIPTextConfig
from ...configs.unet import UNetConfig
from ...configs.vae import TinyVAEConfig, VAEConfig
from ...errors import ModelError, shown
from ...names import ldm
from ...names.older import is_harmless
from ...names.table import Table, flax, origins
from ...names.text import clip_table, openclip_table
from ...names.unet import unet_table
from ...names.vae import vae_table
from ...nn import AutoencoderKL, CLIPTextModel, TinyAutoencoder, UNet2DCondition
from ..formats.open import open_weights
from ..formats.source import WeightSource
from ..load.fill import check_numbers, listed, without_ones
from ..load.networks import check_variant
from ..load.single_file import find_single_file, part_source
from .from_file import COMPONENT_WORDS, OUR_LAYOUTS, Config, Detected, check_config_folder, detect, own_names
from .index import FILE, INDEX
from .infer import FAMILIES, Family, family_of
from .layouts import Component, folder_name
from .prediction import Training, find_training
from .renamed import Renamed, name_in_file
from .weight_files import find_weights

FOLDERS: tuple[Component, ...] = ("unet", "vae", "text_encoder", "text_encoder_2")
# Beside the components in a folder; without them a picture can still be made.
EXTRAS = ("safety_checker", "feature_extractor", "image_encoder")


@dataclass(frozen=True)
class Piece:
    """A component: its config, LDM's names for its modules (without a prefix), LDM's prefix, its tensors, and the names
    in its place that are none of them."""

    config: Config
    table: Table
    prefix: str
    tensors: Renamed
    unknown: tuple[str, ...] = ()


@dataclass(frozen=True)
class Model:
    """A checkpoint. `raw` and `detected` are those of a single file; `dropped` is what no component needs, `missing`
    are files that a folder's index speaks of."""

    path: Path
    family: Family
    pieces: Mapping[Component, Piece]
    training: Training
    metadata: Mapping[str, str]
    dropped: tuple[str, ...] = ()
    raw: WeightSource | None = None
    detected: Detected | None = None
    config_folder: Path | None = None
    missing: tuple[str, ...] = ()

    def chosen(self, only: Component | None) -> Mapping[Component, Piece]:
        """All components, or the one that was asked for."""
        return self.pieces if only is None else {only: self.pieces[only]}

    def tokenizer_folder(self, name: str) -> Path | None:
        """The folder of the model's own tokenizer, where it brings one or the given configs do."""
        places = [folder / name for folder in (self.config_folder, self.path) if folder is not None]
        return next((folder for folder in places if folder.is_dir()), None)


def open_model(
    path: Path | str,
    *,
    config: Path | None = None,
    prediction_type: str | None = None,
    ema: bool = False,
    variant: str | None = None,
) -> Model:
    """The model in a single file or a folder; arguments as `detect` takes them, and a folder's `variant`.

    Raises ModelError for what is no model, or has no EMA copy where that was asked for; `check_complete` says what
    else is wrong.
    """
    path = Path(path)
    if not path.is_dir():
        if variant:
            raise ModelError(f"{path}: a single file has no variants; leave --variant out")
        return _open_file(find_single_file(path), config, prediction_type, ema)
    if ema:
        raise ModelError(f"{path}: a folder in diffusers layout has no EMA copy; leave --ema out")
    if config is not None:
        check_config_folder(config)
    return _open_folder(path, config or path, prediction_type, variant)


def _open_file(path: Path, config: Path | None, prediction_type: str | None, ema: bool) -> Model:
    source = open_weights(path)
    found = detect(source, prediction_type=prediction_type, config=config, ema=ema)
    pieces: dict[Component, Piece] = {}
    for component, part in found.parts.items():
        _check_config(path, component, part.config)
        layout = "openclip" if part.place.layout == "openclip" else "ldm"
        prefix = ldm_prefix(component, found.family, layout)
        pieces[component] = Piece(part.config, part.table, prefix, part_source(source, part), part.unknown)
    return Model(
        path, found.family, pieces, found.training, _texts(source.metadata), found.dropped, source, found, config
    )


def _open_folder(path: Path, config: Path, prediction_type: str | None, variant: str | None) -> Model:
    own_config = path / "config.json"
    missing: tuple[str, ...] = ()
    if own_config.is_file():
        folders: dict[Component, Path] = {_component_of(own_config): path}
    else:
        folders = {name: path / name for name in FOLDERS if (path / name / "config.json").is_file()}
        missing = _missing(path)
    if not folders:
        raise ModelError(
            f"{path}: has no config.json nor folders {', '.join(FOLDERS[:3])} with one; expected a model in diffusers "
            "layout, or name the weights file itself"
        )
    configs: dict[Component, Config] = {
        name: _read(name, _config_file(config, name, folder)) for name, folder in folders.items()
    }
    family = _folder_family(configs)
    check_variant(path, variant, [str(folder.relative_to(path)) for folder in folders.values()])
    pieces: dict[Component, Piece] = {
        name: _folder_piece(name, folder, configs[name], family, variant) for name, folder in folders.items()
    }
    metadata = _texts({key: value for piece in pieces.values() for key, value in piece.tensors.metadata.items()})
    training = find_training(
        family.name,
        path=None,
        metadata=metadata,
        names=(),
        prediction_type=prediction_type,
        config=config if (config / FILE).is_file() else path,
    )
    dropped = tuple(name for name in EXTRAS if (path / name).is_dir())
    return Model(path, family, pieces, training, metadata, dropped, config_folder=config, missing=missing)


def _missing(path: Path) -> tuple[str, ...]:
    """What the folder's index says is there and is not."""
    if not (path / INDEX).is_file():
        return ()
    said = read_json(path / INDEX)
    files = (*(f"{name}/config.json" for name in FOLDERS), str(FILE))
    return tuple(file for file in files if any(_listed(said, file.split("/")[0])) and not (path / file).is_file())


def _listed(index: Mapping[str, Any], name: str) -> list[object]:
    said: object = index.get(name)
    return cast("list[object]", said) if isinstance(said, list) else []


def _config_file(given: Path, component: Component, own: Path) -> Path:
    """The config that the caller gave for a component, else its own."""
    path = given / folder_name(component) / "config.json"
    return path if path.is_file() else own / "config.json"


_MODULES: dict[type, Callable[[Any], nn.Module]] = {
    UNetConfig: UNet2DCondition,
    VAEConfig: AutoencoderKL,
    TinyVAEConfig: TinyAutoencoder,
    CLIPTextConfig: CLIPTextModel,
}


def check_complete(model: Model, only: Component | None = None) -> None:
    """Raises ModelError, naming tensors, when a component lacks some, has some too many, or some of other shapes or
    kinds of numbers than its config's.

    Compared is with the network itself, built without memory for its weights; no tensor is read.
    """
    missing_files = [file for file in model.missing if only is None or file.startswith(f"{folder_name(only)}/")]
    if missing_files:
        raise ModelError(
            f"{model.path}: has no {' and no '.join(missing_files)}, which its {INDEX} speaks of; download it again"
        )
    for component, piece in model.chosen(only).items():
        if piece.unknown:
            raise ModelError(
                f"{model.path}: its {COMPONENT_WORDS[component]} has {len(piece.unknown)} tensors that are not known "
                f"({listed(piece.unknown)}); check that its config belongs to it"
            )
        expected = _expected(component, piece.config)
        missing = expected.keys() - set(piece.tensors.names())
        if missing:
            named = _names_in_file(model, component, [name for name in expected if name in missing])
            raise ModelError(
                f"{model.path}: its {COMPONENT_WORDS[component]} is incomplete, {len(named)} tensors are missing "
                f"({listed(named)}); download the model again"
            )
        unreadable: Mapping[str, str] = getattr(model.raw, "unreadable", {})
        if lost := sorted(piece.tensors.source_names() & unreadable.keys()):
            raise ModelError(f"{model.path}: the tensor '{shown(lost[0])}' {unreadable[lost[0]]}")
        for name, place in expected.items():
            check_numbers(piece.tensors, name, place)
            found = piece.tensors.shape(name)
            if without_ones(found) != without_ones(place.shape):
                where = name_in_file(piece.tensors, name)
                raise ModelError(
                    f"{model.path}: '{where}' has the shape {list(found)} where its {COMPONENT_WORDS[component]} needs "
                    f"{list(place.shape)}; download the model again, or give --config FOLDER if its configs are others"
                )


def _expected(component: Component, config: Config) -> dict[str, Tensor]:
    with torch.device("meta"):
        state: dict[str, Tensor] = _MODULES[type(config)](config).state_dict()
        if component == "text_encoder_2" and isinstance(config, CLIPTextConfig):
            state["text_projection.weight"] = torch.empty(config.projection_dim, config.hidden_size)
    return state


def _names_in_file(model: Model, component: Component, ours: Sequence[str]) -> list[str]:
    """What the file would call tensors that it lacks."""
    part = model.detected.parts[component] if model.detected else None
    if part is None:
        return [f"{component}/{name}" for name in ours] if len(model.pieces) > 1 else list(ours)
    named = list(ours) if part.place.layout in OUR_LAYOUTS else list(origins(part.table, ours, to="foreign"))
    is_copy = component == "unet" and model.detected is not None and model.detected.uses_ema
    return [ldm.ema_name(ldm.UNET + name) if is_copy else part.place.prefix + name for name in named]


def _texts(metadata: Mapping[str, str]) -> dict[str, str]:
    """The metadata as a file can hold it: halves of characters, which JSON may bring, become question marks."""
    return {
        key.encode(errors="replace").decode(): value.encode(errors="replace").decode()
        for key, value in metadata.items()
    }


def ldm_prefix(component: Component, family: Family, layout: str) -> str:
    """What LDM files put before the names of a component."""
    xl = family.name.startswith("sdxl")
    if component == "text_encoder":
        return ldm.SDXL_CLIP if xl else ldm.OPENCLIP if layout == "openclip" else ldm.CLIP
    if component == "text_encoder_2":
        return ldm.REFINER_OPENCLIP if family.name == "sdxl_refiner" else ldm.SDXL_OPENCLIP
    return ldm.UNET if component == "unet" else ldm.VAE


_CLASSES: dict[str, tuple[Component, type[UNetConfig | VAEConfig | TinyVAEConfig | CLIPTextConfig]]] = {
    "UNet2DConditionModel": ("unet", UNetConfig),
    "AutoencoderKL": ("vae", VAEConfig),
    "AutoencoderTiny": ("tiny_vae", TinyVAEConfig),
    "FlaxUNet2DConditionModel": ("unet", UNetConfig),
    "FlaxAutoencoderKL": ("vae", VAEConfig),
    "FlaxCLIPTextModel": ("text_encoder", CLIPTextConfig),
    "CLIPTextModel": ("text_encoder", CLIPTextConfig),
    "CLIPTextModelWithProjection": ("text_encoder_2", CLIPTextConfig),
}


def _component_of(path: Path) -> Component:
    data = read_json(path)
    named = [data.get("_class_name"), *cast("list[object]", data.get("architectures") or [])]
    found = next((name for name in named if isinstance(name, str) and name in _CLASSES), None)
    if found is None:
        raise ModelError(f"{path}: names no class of Stable Diffusion, expected one of {', '.join(_CLASSES)}")
    return _CLASSES[found][0]


def _read(component: Component, path: Path) -> Config:
    data = read_json(path)
    if data.get("_class_name") == "AutoencoderTiny":
        return TinyVAEConfig.from_dict(data, str(path))
    kinds = dict(_CLASSES.values())
    return kinds[component].from_dict(data, str(path))


def _folder_family(configs: Mapping[Component, Config]) -> Family:
    unet = configs.get("unet")
    if "text_encoder_2" in configs:
        return FAMILIES["sdxl" if "text_encoder" in configs else "sdxl_refiner"]
    if isinstance(unet, UNetConfig) and unet.addition_embed_type == "text_time":
        return FAMILIES["sdxl_refiner" if unet.cross_attention_dim == 1280 else "sdxl"]
    text = configs.get("text_encoder")
    return family_of(unet if isinstance(unet, UNetConfig) else None, text if isinstance(text, CLIPTextConfig) else None)


def _folder_piece(component: Component, folder: Path, config: Config, family: Family, variant: str | None) -> Piece:
    # OpenCLIP's naming stands for its activation: readers of LDM files tell one from the other.
    is_open = isinstance(config, CLIPTextConfig) and config.hidden_act == "gelu"
    table = _table(component, config, is_open)
    source = open_weights(find_weights(folder, variant))
    names = source.names()
    if any(name.endswith(".kernel") for name in names):
        found = origins(flax(table), names)
    else:
        found = own_names(dict.fromkeys(names, ()), table)
    prefix = ldm_prefix(component, family, "openclip" if is_open else "ldm")
    tensors = Renamed(source, found)
    used = tensors.source_names()
    unknown = tuple(name for name in names if name not in used and not is_harmless(name))
    return Piece(config, table, prefix, tensors, unknown)


def _table(component: Component, config: Config, is_open: bool) -> Table:
    if isinstance(config, UNetConfig):
        return unet_table(config)
    if isinstance(config, VAEConfig):
        return vae_table(config)
    if isinstance(config, TinyVAEConfig):
        return ()
    second = component == "text_encoder_2"
    return openclip_table(config, second) if is_open else clip_table(config, second)


def _check_config(path: Path, component: Component, config: Config) -> None:
    try:
        config.check(component)
    except ModelError as error:
        raise ModelError(
            f"{path}: {error}.\nIts shapes do not tell everything of this unusual model: give --config FOLDER, "
            "a model folder with its configs."
        ) from None


def read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"{path}: cannot be read as text ({error})") from None
