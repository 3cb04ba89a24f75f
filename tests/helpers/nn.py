"""Tiny real networks in the shapes of each model family: ours and the oracle's, with the same random weights.

Configs are plain dicts as a config.json holds them, so that both sides read the same one; `changes` replace keys.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from sdedit_cli.configs.clip import CLIPTextConfig
from sdedit_cli.configs.unet import UNetConfig
from sdedit_cli.configs.vae import TinyVAEConfig, VAEConfig
from sdedit_cli.nn import AutoencoderKL, CLIPTextModel, TinyAutoencoder, UNet2DCondition

TEXT_WIDTH = 32
POOLED_WIDTH = 24

_UNET: dict[str, Any] = {
    "_class_name": "UNet2DConditionModel",
    "sample_size": 8,
    "in_channels": 4,
    "out_channels": 4,
    "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
    "mid_block_type": "UNetMidBlock2DCrossAttn",
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
    "block_out_channels": [32, 64],
    "layers_per_block": 2,
    "norm_num_groups": 8,
    "cross_attention_dim": TEXT_WIDTH,
    "attention_head_dim": 2,
}

UNET_FAMILIES: dict[str, dict[str, Any]] = {
    "sd15": {"attention_head_dim": 8},
    "sd21": {"attention_head_dim": [2, 4], "use_linear_projection": True, "upcast_attention": True},
    "lcm": {"attention_head_dim": 8, "time_cond_proj_dim": 16},
    "sdxl": {
        "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"],
        "up_block_types": ["CrossAttnUpBlock2D", "UpBlock2D"],
        "attention_head_dim": [2, 4],
        "use_linear_projection": True,
        "transformer_layers_per_block": [1, 2],
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 8,
        "projection_class_embeddings_input_dim": 6 * 8 + POOLED_WIDTH,
    },
}


def tiny_unet_config(family: str = "sd15", **changes: Any) -> dict[str, Any]:
    """unet/config.json of a two-level UNet; `family` is a key of UNET_FAMILIES."""
    return {**_UNET, **UNET_FAMILIES[family], **changes}


def tiny_vae_config(**changes: Any) -> dict[str, Any]:
    """vae/config.json of a two-level AutoencoderKL: 2 pixels a latent."""
    return {
        "_class_name": "AutoencoderKL",
        "block_out_channels": [16, 32],
        "down_block_types": ["DownEncoderBlock2D"] * 2,
        "up_block_types": ["UpDecoderBlock2D"] * 2,
        "layers_per_block": 1,
        "norm_num_groups": 8,
        "sample_size": 16,
        "latent_channels": 4,
        "scaling_factor": 0.18215,
        **changes,
    }


def tiny_taesd_config(**changes: Any) -> dict[str, Any]:
    """vae/config.json of a small TAESD. It keeps the real one's four levels: the oracle tiles by 8 pixels always."""
    return {
        "_class_name": "AutoencoderTiny",
        "encoder_block_out_channels": [8] * 4,
        "decoder_block_out_channels": [8] * 4,
        "num_encoder_blocks": [1, 1, 2, 1],
        "num_decoder_blocks": [1, 2, 1, 1],
        **changes,
    }


def tiny_clip_config(**changes: Any) -> dict[str, Any]:
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
        "hidden_act": "quick_gelu",
        "bos_token_id": 49406,
        "eos_token_id": 49407,
        "pad_token_id": 49407,
        "projection_dim": TEXT_WIDTH,
        **changes,
    }


def randomise(model: nn.Module, seed: int = 0) -> None:
    """Every parameter drawn anew: biases and norms too, which start as constants that would hide a mix-up."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            values = torch.randn(parameter.shape, generator=generator)
            if parameter.dim() > 1:
                parameter.copy_(values * parameter[0].numel() ** -0.5)
            else:
                parameter.copy_(values * 0.1 + (1 if name.endswith("weight") else 0))


def tiny_unet(family: str = "sd15", seed: int = 0, **changes: Any) -> UNet2DCondition:
    """Our UNet with random weights."""
    model = UNet2DCondition(UNetConfig.from_dict(tiny_unet_config(family, **changes))).eval()
    randomise(model, seed)
    return model


def tiny_vae(seed: int = 0, **changes: Any) -> AutoencoderKL:
    """Our autoencoder with random weights."""
    model = AutoencoderKL(VAEConfig.from_dict(tiny_vae_config(**changes))).eval()
    randomise(model, seed)
    return model


def tiny_taesd(seed: int = 0, **changes: Any) -> TinyAutoencoder:
    """Our tiny autoencoder with random weights."""
    model = TinyAutoencoder(TinyVAEConfig.from_dict(tiny_taesd_config(**changes))).eval()
    randomise(model, seed)
    return model


def tiny_clip(seed: int = 0, **changes: Any) -> CLIPTextModel:
    """Our text encoder with random weights."""
    model = CLIPTextModel(CLIPTextConfig.from_dict(tiny_clip_config(**changes))).eval()
    randomise(model, seed)
    return model


def oracle_of(model: nn.Module) -> Any:
    """The oracle's network of the same config with the weights of `model`. Raises AssertionError where the names or
    the shapes of the parameters differ."""
    config = model.config.to_dict()  # pyright: ignore -- a config of ours
    theirs = oracle_from_config(config).eval()
    state = {oracle_name(model, name): value for name, value in model.state_dict().items()}
    expected = theirs.state_dict()
    assert {k: tuple(v.shape) for k, v in state.items()} == {k: tuple(v.shape) for k, v in expected.items()}
    theirs.load_state_dict(state)
    dtype = next(model.parameters()).dtype
    return theirs if dtype is torch.float32 else theirs.to(dtype)


def oracle_from_config(config: dict[str, Any]) -> Any:
    """The oracle's network of a config.json, with the oracle's own random weights."""
    if config.get("model_type") == "clip_text_model":
        import transformers

        keys = {k: v for k, v in config.items() if k not in ("architectures", "model_type")}
        return transformers.CLIPTextModel(transformers.CLIPTextConfig(**keys))
    import diffusers

    keys = {k: v for k, v in config.items() if k != "_class_name"}
    if config["_class_name"] == "UNet2DConditionModel" and keys.get("num_attention_heads") is None:
        keys.pop("num_attention_heads", None)
    return getattr(diffusers, config["_class_name"])(**keys)


def oracle_name(model: nn.Module, name: str) -> str:
    """What the oracle calls our parameter: transformers 5 dropped the text encoder's prefix that files have."""
    if isinstance(model, CLIPTextModel) and not _oracle_has_prefix():
        return name.removeprefix("text_model.")
    return name


def _oracle_has_prefix() -> bool:
    import transformers

    return int(transformers.__version__.split(".")[0]) < 5
