"""The reference's pipelines of the small tiny models, as folders that both read; and pictures to edit with them."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from helpers.tiny.configs import clip_config, unet_config, vae_config
from helpers.tiny.folders import scheduler
from helpers.tiny.networks import oracle_from_config

STARTER_TOKENIZER = Path(__file__).parents[2] / "sdedit_cli" / "assets" / "starter" / "tokenizer"
FAMILIES = ("sd15", "sd21", "lcm")


def oracle_pipeline(family: str, *, checker: bool = False, unet: Mapping[str, Any] | None = None) -> Any:
    """The reference's pipeline over random weights, with changes of the UNet's config; the seed is fixed."""
    from diffusers import StableDiffusionImg2ImgPipeline
    from transformers import CLIPTokenizer

    torch.manual_seed(0)
    network = oracle_from_config(unet_config(family, **(unet or {})))
    vae = oracle_from_config(vae_config())
    starter = {"vocab_size": 1914, "bos_token_id": 1912, "eos_token_id": 1913, "max_position_embeddings": 32}
    text = oracle_from_config(clip_config(family, **starter, projection_dim=512))
    extras = _checker() if checker else {"safety_checker": None, "feature_extractor": None}
    pipe = StableDiffusionImg2ImgPipeline(
        vae=vae.eval(),
        text_encoder=text.eval(),
        tokenizer=CLIPTokenizer.from_pretrained(STARTER_TOKENIZER),
        unet=network.eval(),
        scheduler=scheduler("DDIMScheduler", family, clip_sample=False),
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
