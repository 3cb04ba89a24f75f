"""Tiny configs in the shapes of each model family, as the files of a model folder hold them; `changes` replace keys.

They come in two sizes. Small ones cost the least. *Telling* ones have the heads and norm groups of the real models, so
that a single file's shapes tell everything, and the vocabulary of CLIP.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

TEXT_WIDTH = 32
POOLED_WIDTH = 24

_UNET: dict[str, Any] = {
    "_class_name": "UNet2DConditionModel",
    "sample_size": 16,
    "in_channels": 4,
    "out_channels": 4,
    "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
    "mid_block_type": "UNetMidBlock2DCrossAttn",
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
    "block_out_channels": [32, 64],
    "layers_per_block": 1,
    "norm_num_groups": 8,
    "cross_attention_dim": TEXT_WIDTH,
}


@dataclass(frozen=True)
class Family:
    """What the models of a family share. `openclip`: single files name its text encoder as OpenCLIP, and '!' pads."""

    unet: dict[str, Any]
    activation: str = "quick_gelu"
    prediction: str = "epsilon"
    openclip: bool = False


FAMILIES = {
    "sd15": Family({"attention_head_dim": 4}),
    "sd21": Family(
        {"attention_head_dim": [2, 4], "use_linear_projection": True, "upcast_attention": True},
        activation="gelu",
        prediction="v_prediction",
        openclip=True,
    ),
    "lcm": Family({"attention_head_dim": 4, "time_cond_proj_dim": 32}),
    "sdxl": Family(
        {
            "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"],
            "up_block_types": ["CrossAttnUpBlock2D", "UpBlock2D"],
            "attention_head_dim": [2, 4],
            "use_linear_projection": True,
            "transformer_layers_per_block": [1, 2],
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 8,
            "projection_class_embeddings_input_dim": 6 * 8 + POOLED_WIDTH,
        }
    ),
}
# What makes a config of a family a telling one, by component.
_TELLING_UNET: dict[str, dict[str, Any]] = {
    "sd15": {"cross_attention_dim": 64, "attention_head_dim": 8},
    "sd21": {"cross_attention_dim": 64, "attention_head_dim": [1, 1]},
    "sdxl": {
        "cross_attention_dim": 128,
        "attention_head_dim": [1, 1],
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 64 + 6 * 256,
    },
}
_TELLING_TEXT = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 1,
    "projection_dim": 64,
}
TELLING: dict[str, dict[str, dict[str, Any]]] = {
    family: {
        "unet": {"norm_num_groups": 32, **unet},
        "vae": {"block_out_channels": [32, 64], "norm_num_groups": 32},
        "text_encoder": _TELLING_TEXT,
    }
    for family, unet in _TELLING_UNET.items()
}
# The families of telling models that edits run on.
EDITED = ("sd15", "sd21")


def unet_config(family: str = "sd15", **changes: Any) -> dict[str, Any]:
    """unet/config.json of a two-level UNet."""
    return {**_UNET, **FAMILIES[family].unet, **changes}


def vae_config(**changes: Any) -> dict[str, Any]:
    """vae/config.json of a two-level AutoencoderKL: 2 pixels a latent."""
    return {
        "_class_name": "AutoencoderKL",
        "block_out_channels": [16, 32],
        "down_block_types": ["DownEncoderBlock2D"] * 2,
        "up_block_types": ["UpDecoderBlock2D"] * 2,
        "layers_per_block": 1,
        "norm_num_groups": 8,
        "sample_size": 32,
        "latent_channels": 4,
        "scaling_factor": 0.18215,
        **changes,
    }


def taesd_config(**changes: Any) -> dict[str, Any]:
    """vae/config.json of a small TAESD. It keeps the real one's four levels: the oracle tiles by 8 pixels always."""
    return {
        "_class_name": "AutoencoderTiny",
        "encoder_block_out_channels": [8] * 4,
        "decoder_block_out_channels": [8] * 4,
        "num_encoder_blocks": [1, 1, 2, 1],
        "num_decoder_blocks": [1, 2, 1, 1],
        **changes,
    }


def clip_config(family: str = "sd15", **changes: Any) -> dict[str, Any]:
    """text_encoder/config.json of a CLIP text model with the vocabulary size of the real one."""
    return {
        "architectures": ["CLIPTextModel"],
        "model_type": "clip_text_model",
        "vocab_size": 49408,
        "hidden_size": TEXT_WIDTH,
        "intermediate_size": 64,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "max_position_embeddings": 77,
        "hidden_act": FAMILIES[family].activation,
        "bos_token_id": 49406,
        "eos_token_id": 49407,
        "pad_token_id": 1,
        "projection_dim": TEXT_WIDTH,
        **changes,
    }
