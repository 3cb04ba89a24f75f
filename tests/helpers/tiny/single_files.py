"""Telling models as single files: the tensors of a folder under the names that LDM and OpenCLIP give them."""

from __future__ import annotations

import atexit
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from safetensors.torch import load_file, save_file

from helpers.names import SCHEDULE_BUFFERS
from helpers.tiny.configs import FAMILIES, TELLING, clip_config, unet_config, vae_config
from helpers.tiny.folders import save_folder
from helpers.tiny.networks import oracle_from_config
from sdedit_cli.configs.clip import CLIPTextConfig
from sdedit_cli.configs.unet import UNetConfig
from sdedit_cli.configs.vae import VAEConfig
from sdedit_cli.names import ldm
from sdedit_cli.names.table import Table, origins, prefixed
from sdedit_cli.names.text import clip_table, openclip_table
from sdedit_cli.names.unet import unet_table
from sdedit_cli.names.vae import vae_table
from sdedit_cli.weights.checkpoint.renamed import OPERATIONS
from sdedit_cli.weights.formats.source import WeightSource

WEIGHTS = {"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model", "text_encoder": "model"}


@cache
def shared(family: str) -> tuple[Path, Path]:
    """The tiny model of a family, as a folder and as a single file: built once a test run, not to be changed."""
    place = TemporaryDirectory(prefix=f"sdedit-{family}-")
    atexit.register(place.cleanup)
    folder = save_folder(Path(place.name) / "folder", family)
    path = save_single_file(Path(place.name) / "model.safetensors", folder, family, {"title": "a test"})
    return folder, path


def folder_tensors(folder: Path, part: str) -> dict[str, torch.Tensor]:
    state = load_file(folder / part / f"{WEIGHTS[part]}.safetensors")
    return prefixed_text(state) if part == "text_encoder" else state


def prefixed_text(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors of a text encoder with the prefix that transformers 5 dropped."""
    return {f"text_model.{name.removeprefix('text_model.')}": tensor for name, tensor in state.items()}


def renamed(tables: Mapping[str, Table], states: Mapping[str, Mapping[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """All tensors under the foreign names of their component's table."""
    tensors: dict[str, torch.Tensor] = {}
    for part, table in tables.items():
        for name, origin in origins(table, states[part], to="foreign").items():
            made = OPERATIONS[origin.operation].apply([states[part][s] for s in origin.sources], origin)
            tensors[name] = made.contiguous()
    return tensors


def ldm_tensors(folder: Path, family: str, leftovers: bool = True) -> dict[str, torch.Tensor]:
    """The tensors of a folder as LDM names them, with what training leaves in a file."""
    unet = UNetConfig.from_dict(json.loads((folder / "unet" / "config.json").read_text()))
    vae = VAEConfig.from_dict(json.loads((folder / "vae" / "config.json").read_text()))
    text = CLIPTextConfig.from_dict(json.loads((folder / "text_encoder" / "config.json").read_text()))
    is_open = FAMILIES[family].openclip
    tables = {
        "unet": prefixed(unet_table(unet), ldm.UNET),
        "vae": prefixed(vae_table(vae), ldm.VAE),
        "text_encoder": prefixed(openclip_table(text), ldm.OPENCLIP)
        if is_open
        else prefixed(clip_table(text), ldm.CLIP),
    }
    tensors = renamed(tables, {part: folder_tensors(folder, part) for part in tables})
    if leftovers:
        tensors |= {name: torch.rand(1000) for name in SCHEDULE_BUFFERS}
        tensors |= {"model_ema.decay": torch.tensor(0.9999), "model_ema.num_updates": torch.tensor(5)}
        if is_open:
            tensors |= {
                ldm.OPENCLIP + "logit_scale": torch.tensor(1.0),
                ldm.OPENCLIP + "text_projection": torch.rand(64, 64),
            }
        else:
            tensors[ldm.CLIP + "text_model.embeddings.position_ids"] = torch.arange(77)[None]
    return tensors


def ema_tensors(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """An averaged copy of the UNet that differs from the plain one."""
    return {ldm.ema_name(name): tensor * 0.5 for name, tensor in tensors.items() if name.startswith(ldm.UNET)}


def save_single_file(
    path: Path, folder: Path, family: str, metadata: dict[str, str] | None = None, **extra: torch.Tensor
) -> Path:
    save_file(ldm_tensors(folder, family) | extra, path, metadata=metadata)
    return path


def xl_tensors(refiner: bool) -> dict[str, dict[str, torch.Tensor]]:
    """The tensors of a tiny XL model, by component, from the oracle's own classes."""
    from transformers import CLIPTextConfig as OracleConfig
    from transformers import CLIPTextModelWithProjection

    telling = TELLING["sdxl"]
    width = {"cross_attention_dim": 1280} if refiner else {}
    torch.manual_seed(1)
    parts = {
        "unet": oracle_from_config(unet_config("sdxl", **telling["unet"] | width)),
        "vae": oracle_from_config(vae_config(**telling["vae"])),
        "text_encoder": oracle_from_config(clip_config("sdxl", **telling["text_encoder"])),
        "text_encoder_2": CLIPTextModelWithProjection(OracleConfig(**telling["text_encoder"], hidden_act="gelu")),
    }
    if refiner:
        del parts["text_encoder"]
    states = {
        part: {name: tensor.clone() for name, tensor in module.state_dict().items() if "position_ids" not in name}
        for part, module in parts.items()
    }
    return {part: prefixed_text(state) if part == "text_encoder" else state for part, state in states.items()}


def xl_single_file(path: Path, states: Mapping[str, Mapping[str, torch.Tensor]], refiner: bool) -> Path:
    """A tiny XL model as its publishers lay it out: two text encoders under `conditioner`."""
    text = CLIPTextConfig(num_hidden_layers=2)
    second = ldm.REFINER_OPENCLIP if refiner else ldm.SDXL_OPENCLIP
    tables = {
        "unet": prefixed(unet_table(UNetConfig.from_dict(unet_config("sdxl"))), ldm.UNET),
        "vae": prefixed(vae_table(VAEConfig.from_dict(vae_config())), ldm.VAE),
        "text_encoder": prefixed(clip_table(text), ldm.SDXL_CLIP),
        "text_encoder_2": prefixed(openclip_table(text, projection=True), second),
    }
    save_file(renamed({part: tables[part] for part in states}, states), path)
    return path


class ShapeSource(WeightSource):
    """A source of which only names and shapes may be asked, as detection needs nothing else."""

    def __init__(self, shapes: Mapping[str, tuple[int, ...]], path: Path, metadata: Mapping[str, str] | None = None):
        self.path, self.metadata, self._shapes = path, metadata or {}, dict(shapes)

    def names(self) -> list[str]:
        return list(self._shapes)

    def shape(self, name: str) -> tuple[int, ...]:
        return self._shapes[name]

    def dtype(self, name: str) -> torch.dtype:
        raise AssertionError(f"detection must not need the dtype of {name}")

    def get(self, name: str) -> torch.Tensor:
        raise AssertionError(f"detection must not read {name}")


def unet_shapes(config: UNetConfig, naming: str) -> ShapeSource:
    """A UNet of this config as a file of its own, without memory for its weights."""
    from sdedit_cli.nn import UNet2DCondition

    with torch.device("meta"):
        shapes = {name: tuple(tensor.shape) for name, tensor in UNet2DCondition(config).state_dict().items()}
    if naming == "ldm":
        found = origins(prefixed(unet_table(config), ldm.UNET), shapes, to="foreign")
        shapes = {name: OPERATIONS[o.operation].shape([shapes[s] for s in o.sources], o) for name, o in found.items()}
    return ShapeSource(shapes, Path("unet.safetensors"))
