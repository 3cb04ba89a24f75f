"""Telling models as folders, written by the oracle's own classes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from helpers.tiny.configs import FAMILIES, TELLING, clip_config, unet_config, vae_config
from helpers.tiny.networks import oracle_from_config
from sdedit_cli.text import Tokenizer

_BETAS: dict[str, Any] = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def scheduler(name: str, family: str, **options: Any) -> Any:
    """A scheduler of the oracle. steps_offset=1 keeps it from warning; what it does to old configs has its own test."""
    import diffusers

    shared = {"prediction_type": FAMILIES[family].prediction, "set_alpha_to_one": False, "steps_offset": 1}
    return getattr(diffusers, name)(**_BETAS, **shared, **options)


def save_folder(
    folder: Path, family: str, dtype: torch.dtype = torch.float32, layers: int | None = None, **unet: Any
) -> Path:
    """The telling model of a family, its weights away from initial ones and zeros, which would hide a mix-up."""
    telling = TELLING[family]
    depth = {} if layers is None else {"num_hidden_layers": layers}
    torch.manual_seed(0)
    parts = {
        "unet": oracle_from_config(unet_config(family, **telling["unet"] | unet)),
        "vae": oracle_from_config(vae_config(**telling["vae"])),
        "text_encoder": oracle_from_config(clip_config(family, **telling["text_encoder"] | depth)),
    }
    for module in parts.values():
        for parameter in module.parameters():
            torch.nn.init.normal_(parameter, std=0.15)
    if family == "sd15":
        schedule = scheduler("PNDMScheduler", family, skip_prk_steps=True)
    else:
        schedule = scheduler("DDIMScheduler", family, clip_sample=False)
    for name, module in parts.items():
        (module if dtype == torch.float32 else module.to(dtype)).save_pretrained(folder / name)
    schedule.save_pretrained(folder / "scheduler")
    tokenizer = Tokenizer.packaged(pad="!") if FAMILIES[family].openclip else Tokenizer.packaged()
    tokenizer.save(folder / "tokenizer")
    index = {
        "_class_name": "StableDiffusionImg2ImgPipeline",
        "_diffusers_version": "0.42.1",
        "scheduler": ["diffusers", type(schedule).__name__],
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
