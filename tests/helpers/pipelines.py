"""Tiny random checkpoints of each family, written by the oracle and read by both."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

STARTER_TOKENIZER = Path(__file__).parents[2] / "sdedit_cli" / "assets" / "starter" / "tokenizer"

_UNET: dict[str, Any] = {
    "sample_size": 16,
    "in_channels": 4,
    "out_channels": 4,
    "block_out_channels": (32, 64),
    "layers_per_block": 1,
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    "cross_attention_dim": 32,
    "norm_num_groups": 8,
}
FAMILIES: dict[str, dict[str, Any]] = {
    "sd15": {"unet": {"attention_head_dim": 4}, "act": "quick_gelu", "prediction": "epsilon"},
    "sd21": {
        "unet": {"attention_head_dim": (2, 4), "use_linear_projection": True, "upcast_attention": True},
        "act": "gelu",
        "prediction": "v_prediction",
    },
    "lcm": {"unet": {"attention_head_dim": 4, "time_cond_proj_dim": 32}, "act": "quick_gelu", "prediction": "epsilon"},
}
BETAS: dict[str, Any] = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def oracle_pipeline(family: str, *, checker: bool = False) -> Any:
    """The reference's pipeline over random weights; the seed is fixed."""
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionImg2ImgPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    facts = FAMILIES[family]
    torch.manual_seed(0)
    unet = UNet2DConditionModel(**(_UNET | facts["unet"]))
    vae = AutoencoderKL(
        block_out_channels=(16, 32),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=8,
        latent_channels=4,
        sample_size=32,
    )
    text = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=1914,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=3,
            num_attention_heads=4,
            max_position_embeddings=32,
            hidden_act=facts["act"],
            bos_token_id=1912,
            eos_token_id=1913,
        )
    )
    # steps_offset=1 keeps the oracle from warning; what it does to old configs has a test of its own.
    scheduler = DDIMScheduler(
        **BETAS, prediction_type=facts["prediction"], clip_sample=False, set_alpha_to_one=False, steps_offset=1
    )
    extras = _checker() if checker else {"safety_checker": None, "feature_extractor": None}
    pipe = StableDiffusionImg2ImgPipeline(
        vae=vae.eval(),
        text_encoder=text.eval(),
        tokenizer=CLIPTokenizer.from_pretrained(STARTER_TOKENIZER),
        unet=unet.eval(),
        scheduler=scheduler,
        requires_safety_checker=checker,
        **extras,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def _checker() -> dict[str, Any]:
    from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
    from transformers import CLIPConfig, CLIPImageProcessor

    vision = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "image_size": 32,
        "patch_size": 8,
        "projection_dim": 16,
    }
    checker = StableDiffusionSafetyChecker(CLIPConfig(vision_config=vision, projection_dim=16)).eval()
    for name in ("concept_embeds", "special_care_embeds"):
        torch.nn.init.normal_(getattr(checker, name))
    for name in ("concept_embeds_weights", "special_care_embeds_weights"):
        torch.nn.init.constant_(getattr(checker, name), 0.3)
    size = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    return {"safety_checker": checker, "feature_extractor": CLIPImageProcessor(**size)}


def write_checkpoint(folder: Path, family: str = "sd15", **options: Any) -> Any:
    """Saves the oracle's tiny pipeline under `folder` and returns it."""
    pipe = oracle_pipeline(family, **options)
    pipe.save_pretrained(folder)
    if not (folder / "tokenizer" / "vocab.json").exists():
        shutil.copytree(STARTER_TOKENIZER, folder / "tokenizer", dirs_exist_ok=True)
    return pipe


def picture(width: int = 32, height: int = 32, seed: int = 0) -> Image.Image:
    """A smooth random picture: low frequencies, all colours."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8))
    return coarse.resize((width, height), Image.Resampling.BICUBIC)
