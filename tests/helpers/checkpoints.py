"""Tiny real checkpoints of each family, in every layout: the oracle's own folders, and single files made of them."""

from __future__ import annotations

import atexit
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from helpers.names import SCHEDULE_BUFFERS
from sdedit_cli.configs.clip import CLIPTextConfig
from sdedit_cli.configs.unet import UNetConfig
from sdedit_cli.configs.vae import VAEConfig
from sdedit_cli.names import ldm
from sdedit_cli.names.table import origins, prefixed
from sdedit_cli.names.text import clip_table, openclip_table
from sdedit_cli.names.unet import unet_table
from sdedit_cli.names.vae import vae_table
from sdedit_cli.text import Tokenizer
from sdedit_cli.weights.checkpoint.renamed import OPERATIONS
from sdedit_cli.weights.formats.source import WeightSource

WEIGHTS = {"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model", "text_encoder": "model"}


@dataclass(frozen=True)
class Tiny:
    """A tiny model of a family whose heads and norm groups are the family's, so that shapes tell everything."""

    family: str
    linear: bool
    hidden_act: str
    prediction_type: str
    layers: int = 2


TINY = {
    "sd1": Tiny("sd1", False, "quick_gelu", "epsilon"),
    "sd2": Tiny("sd2", True, "gelu", "v_prediction"),
}


def save_folder(
    folder: Path, family: str, dtype: torch.dtype = torch.float32, layers: int | None = None, **unet: Any
) -> Path:
    """A folder in diffusers layout, written by the oracle's own classes."""
    from diffusers import AutoencoderKL, DDIMScheduler, PNDMScheduler, UNet2DConditionModel
    from transformers import CLIPTextConfig as OracleConfig
    from transformers import CLIPTextModel

    tiny = TINY[family]
    torch.manual_seed(0)
    net = UNet2DConditionModel(
        **{
            "block_out_channels": (32, 64),
            "layers_per_block": 1,
            "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
            "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
            "cross_attention_dim": 64,
            "attention_head_dim": 8 if family == "sd1" else (1, 1),
            "use_linear_projection": tiny.linear,
            "upcast_attention": family == "sd2",
            "sample_size": 16,
            **unet,
        }
    )
    vae = AutoencoderKL(
        block_out_channels=(32, 64),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        layers_per_block=1,
        sample_size=32,
    )
    text = CLIPTextModel(
        OracleConfig(
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=layers or tiny.layers,
            num_attention_heads=1,
            hidden_act=tiny.hidden_act,
            projection_dim=64,
        )
    )
    for module in (net, vae, text):
        for parameter in module.parameters():  # away from initial ones and zeros, which would hide a mix-up
            torch.nn.init.normal_(parameter, std=0.15)
    schedule: dict[str, Any] = {
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "set_alpha_to_one": False,
        "steps_offset": 1,
        "prediction_type": tiny.prediction_type,
    }
    if family == "sd1":
        scheduler: Any = PNDMScheduler(**schedule, skip_prk_steps=True)
    else:
        scheduler = DDIMScheduler(**schedule, clip_sample=False)
    parts = {"unet": net, "vae": vae, "text_encoder": text}
    for name, module in parts.items():
        (module if dtype == torch.float32 else module.to(dtype)).save_pretrained(folder / name)
    scheduler.save_pretrained(folder / "scheduler")
    tokenizer = Tokenizer.packaged(pad="!") if family == "sd2" else Tokenizer.packaged()
    tokenizer.save(folder / "tokenizer")
    index = {
        "_class_name": "StableDiffusionImg2ImgPipeline",
        "_diffusers_version": "0.42.1",
        "scheduler": ["diffusers", type(scheduler).__name__],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
        "safety_checker": [None, None],
        "feature_extractor": [None, None],
        "image_encoder": [None, None],
        "requires_safety_checker": False,
    }
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


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
    if part == "text_encoder" and not any(name.startswith("text_model.") for name in state):
        state = {f"text_model.{name}": tensor for name, tensor in state.items()}
    return state


def ldm_tensors(folder: Path, family: str, leftovers: bool = True) -> dict[str, torch.Tensor]:
    """The tensors of a folder as LDM names them, with what training leaves in a file."""
    unet = UNetConfig.from_dict(json.loads((folder / "unet" / "config.json").read_text()))
    vae = VAEConfig.from_dict(json.loads((folder / "vae" / "config.json").read_text()))
    text = CLIPTextConfig.from_dict(json.loads((folder / "text_encoder" / "config.json").read_text()))
    is_open = family == "sd2"
    tables = {
        "unet": prefixed(unet_table(unet), ldm.UNET),
        "vae": prefixed(vae_table(vae), ldm.VAE),
        "text_encoder": prefixed(openclip_table(text), ldm.OPENCLIP)
        if is_open
        else prefixed(clip_table(text), ldm.CLIP),
    }
    tensors: dict[str, torch.Tensor] = {}
    for part, table in tables.items():
        state = folder_tensors(folder, part)
        for name, origin in origins(table, state, to="foreign").items():
            made = OPERATIONS[origin.operation].apply([state[s] for s in origin.sources], origin)
            tensors[name] = made.contiguous()
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


def xl_single_file(path: Path, states: Mapping[str, Mapping[str, torch.Tensor]], refiner: bool) -> Path:
    """A tiny XL model as its publishers lay it out: two text encoders under `conditioner`."""
    text = CLIPTextConfig(num_hidden_layers=2)
    unet = UNetConfig(
        block_out_channels=(32, 64),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=(1, 2),
        addition_embed_type="text_time",
    )
    vae = VAEConfig(
        block_out_channels=(32, 64),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
    )
    tables = {
        "unet": prefixed(unet_table(unet), ldm.UNET),
        "vae": prefixed(vae_table(vae), ldm.VAE),
        "text_encoder": prefixed(clip_table(text), ldm.SDXL_CLIP),
        "text_encoder_2": prefixed(
            openclip_table(text, projection=True), ldm.REFINER_OPENCLIP if refiner else ldm.SDXL_OPENCLIP
        ),
    }
    tensors: dict[str, torch.Tensor] = {}
    for part, state in states.items():
        for name, origin in origins(tables[part], state, to="foreign").items():
            made = OPERATIONS[origin.operation].apply([state[s] for s in origin.sources], origin)
            tensors[name] = made.contiguous()
    save_file(tensors, path)
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
