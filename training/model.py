"""What is trained: the three networks at a picture size, their files, and the folder they end up in.

The UNet always works on 16 x 16 latents: at 64 px the autoencoder halves twice (f=4), at 128 px three times (f=8).
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, cast

import safetensors.torch as files
import torch
from torch import nn

from sdedit_cli.configs.clip import CLIPTextConfig
from sdedit_cli.configs.unet import UNetConfig
from sdedit_cli.configs.vae import VAEConfig
from sdedit_cli.nn import AutoencoderKL, CLIPTextModel, UNet2DCondition
from sdedit_cli.weights import load_networks

M = TypeVar("M", bound=nn.Module)

LATENT_SIDE = 16
VAE_WIDTHS = {64: (32, 64, 96), 128: (32, 64, 96, 96)}
WEIGHTS = {
    "vae": "diffusion_pytorch_model.safetensors",
    "unet": "diffusion_pytorch_model.safetensors",
    "text_encoder": "model.safetensors",
}
CLASSES = {
    "vae": ["diffusers", "AutoencoderKL"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "scheduler": ["diffusers", "DDIMScheduler"],
    "safety_checker": [None, None],
    "feature_extractor": [None, None],
    "image_encoder": [None, None],
}
SCHEDULER: dict[str, Any] = {
    "_class_name": "DDIMScheduler",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
    "prediction_type": "v_prediction",
    "timestep_spacing": "leading",
    "steps_offset": 1,
    "set_alpha_to_one": False,
    "clip_sample": False,
}


def vae_config(size: int) -> VAEConfig:
    """1.7 M parameters at 64 px, 2.2 M at 128 px."""
    widths = VAE_WIDTHS[size]
    return VAEConfig(
        down_block_types=("DownEncoderBlock2D",) * len(widths),
        up_block_types=("UpDecoderBlock2D",) * len(widths),
        block_out_channels=widths,
        norm_num_groups=16,
        sample_size=size,
        scaling_factor=1.0,
    )


def unet_config() -> UNetConfig:
    """8.8 M parameters."""
    return UNetConfig(
        sample_size=LATENT_SIDE,
        block_out_channels=(64, 128, 192),
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=128,
        attention_head_dim=4,
    )


def text_config(vocabulary: int, length: int) -> CLIPTextConfig:
    """1.0 M parameters with the packaged tokenizer's 1,914 entries; the last two are the start and the end."""
    return CLIPTextConfig(
        vocab_size=vocabulary,
        max_position_embeddings=length,
        hidden_size=128,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=4,
        projection_dim=128,
        bos_token_id=vocabulary - 2,
        eos_token_id=vocabulary - 1,
        pad_token_id=vocabulary - 1,
    )


def fresh_vae(size: int) -> AutoencoderKL:
    """An untrained autoencoder. Its posterior variance starts at e^-6: at 1, the noise would hide the picture from the
    decoder for thousands of steps."""
    vae = AutoencoderKL(vae_config(size))
    quant, latents = cast("nn.Conv2d", vae.quant_conv), vae.config.latent_channels
    with torch.no_grad():
        quant.weight[latents:] *= 0.01
        cast("torch.Tensor", quant.bias)[latents:] = -6.0
    return vae


def trainable(folder: Path, kind: type[M]) -> M:
    """The component in `folder` in float32, ready to be trained further. Raises ModelError."""
    loaded = load_networks(folder, dtype=torch.float32)
    module = next(part for part in (loaded.unet, loaded.vae, loaded.text_encoder) if part is not None)
    if not isinstance(module, kind):
        raise TypeError(f"{folder}: holds a {type(module).__name__}, expected a {kind.__name__}")
    return module.train().requires_grad_(True)


def write_component(module: nn.Module, folder: Path, part: str, dtype: torch.dtype = torch.float16) -> None:
    """`module` and its config in diffusers layout."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: value.detach().to("cpu", dtype).contiguous() for name, value in module.state_dict().items()}
    files.save_file(tensors, folder / WEIGHTS[part], metadata={"format": "pt"})
    config = cast("VAEConfig | UNetConfig | CLIPTextConfig", module.config)
    write_json(config.to_dict(), folder / "config.json")


def with_scaling(vae: AutoencoderKL, factor: float) -> AutoencoderKL:
    """The same autoencoder, whose config says by what latents are multiplied to have unit variance."""
    vae.config = dataclasses.replace(vae.config, scaling_factor=factor)
    return vae


def write_model(folder: Path, vae: AutoencoderKL, unet: UNet2DCondition, text: CLIPTextModel, tokenizer: Path) -> None:
    """A complete model folder in half precision, with the tokenizer folder copied from `tokenizer`."""
    for part, module in (("vae", vae), ("unet", unet), ("text_encoder", text)):
        write_component(module, folder / part, part)
    shutil.copytree(tokenizer, folder / "tokenizer", dirs_exist_ok=True)
    (folder / "scheduler").mkdir(exist_ok=True)
    write_json(SCHEDULER, folder / "scheduler" / "scheduler_config.json")
    index: dict[str, Any] = {
        "_class_name": "StableDiffusionImg2ImgPipeline",
        "requires_safety_checker": False,
        **CLASSES,
    }
    # Where a model was trained small, pictures much larger than this are worked on reduced.
    index["_native_size"] = vae.config.sample_size
    write_json(index, folder / "model_index.json")


def write_json(data: Mapping[str, Any], path: Path) -> None:
    path.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
