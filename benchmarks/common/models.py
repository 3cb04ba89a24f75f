"""Checkpoints with random weights in the shapes of Stable Diffusion 1.5, or in small ones that are quick."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from .rates import DTYPES

STARTER = Path(__file__).parents[2] / "sdedit_cli" / "assets" / "starter"
CONFIGS = {
    "unet": {
        "_class_name": "UNet2DConditionModel",
        "sample_size": 64,
        "attention_head_dim": 8,
        "cross_attention_dim": 768,
        "block_out_channels": [320, 640, 1280, 1280],
        "down_block_types": ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"],
        "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3,
        "layers_per_block": 2,
    },
    "vae": {
        "_class_name": "AutoencoderKL",
        "sample_size": 512,
        "block_out_channels": [128, 256, 512, 512],
        "down_block_types": ["DownEncoderBlock2D"] * 4,
        "up_block_types": ["UpDecoderBlock2D"] * 4,
        "layers_per_block": 2,
        "latent_channels": 4,
        "scaling_factor": 0.18215,
    },
    "text_encoder": {
        "architectures": ["CLIPTextModel"],
        "model_type": "clip_text_model",
        "vocab_size": 49408,
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "max_position_embeddings": 77,
        "hidden_act": "quick_gelu",
        "bos_token_id": 49406,
        "eos_token_id": 49407,
    },
    "scheduler": {
        "_class_name": "DDIMScheduler",
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "clip_sample": False,
        "set_alpha_to_one": False,
        "steps_offset": 1,
    },
}
FILES = {"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model", "text_encoder": "model"}
CLASSES = {"unet": "UNet2DConditionModel", "vae": "AutoencoderKL", "scheduler": "DDIMScheduler"}


QUICK: dict[str, dict[str, Any]] = {
    "unet": {"block_out_channels": [32, 64, 64, 64], "cross_attention_dim": 64, "layers_per_block": 1},
    "vae": {"block_out_channels": [32, 32, 64, 64], "layers_per_block": 1},
    "text_encoder": {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4},
}


def configs(quick: bool) -> dict[str, dict[str, Any]]:
    return {part: {**config, **(QUICK.get(part, {}) if quick else {})} for part, config in CONFIGS.items()}


def write_folder(folder: Path, dtype: str, quick: bool = False) -> int:
    """Random weights in the diffusers layout; returns the bytes of the files of weights."""
    import torch
    from safetensors.torch import save_file

    from sdedit_cli.configs.clip import CLIPTextConfig
    from sdedit_cli.configs.unet import UNetConfig
    from sdedit_cli.configs.vae import VAEConfig
    from sdedit_cli.nn import AutoencoderKL, CLIPTextModel, UNet2DCondition

    build: dict[str, Any] = {
        "unet": lambda config: UNet2DCondition(UNetConfig.from_dict(config)),
        "vae": lambda config: AutoencoderKL(VAEConfig.from_dict(config)),
        "text_encoder": lambda config: CLIPTextModel(CLIPTextConfig.from_dict(config)),
    }
    kind = getattr(torch, DTYPES[dtype])
    for part, config in configs(quick).items():
        (folder / part).mkdir(parents=True)
        name = "scheduler_config.json" if part == "scheduler" else "config.json"
        (folder / part / name).write_text(json.dumps(config))
        if part in build:
            torch.manual_seed(0)
            state = {name: value.to(kind).contiguous() for name, value in build[part](config).state_dict().items()}
            save_file(state, folder / part / f"{FILES[part]}.safetensors")
    shutil.copytree(STARTER / "tokenizer", folder / "tokenizer")
    libraries = {part: ["diffusers", kind] for part, kind in CLASSES.items()}
    index = {"_class_name": "StableDiffusionImg2ImgPipeline", "requires_safety_checker": False, **libraries}
    index |= {"text_encoder": ["transformers", "CLIPTextModel"], "tokenizer": ["transformers", "CLIPTokenizer"]}
    index |= {"safety_checker": [None, None], "feature_extractor": [None, None]}
    (folder / "model_index.json").write_text(json.dumps(index))
    return weights_bytes(folder)


def weights_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for part in FILES for path in (folder / part).glob("*.safetensors"))


def settled(folder: Path, dtype: str = "bf16", quick: bool = False) -> Path:
    """The folder, written where it is not there yet."""
    if not (folder / "model_index.json").exists():
        write_folder(folder, dtype, quick)
    return folder
