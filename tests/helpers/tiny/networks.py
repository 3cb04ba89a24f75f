"""Tiny real networks in the shapes of each model family: ours and the oracle's, with the same random weights.

Both sides read the same config, a dict as a config.json holds it; `changes` replace its keys.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from helpers.tiny.configs import clip_config, taesd_config, unet_config, vae_config
from sdedit_cli.configs.clip import CLIPTextConfig
from sdedit_cli.configs.unet import UNetConfig
from sdedit_cli.configs.vae import TinyVAEConfig, VAEConfig
from sdedit_cli.nn import AutoencoderKL, CLIPTextModel, TinyAutoencoder, UNet2DCondition


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
    """Our UNet with random weights, two layers a block so that their order shows."""
    model = UNet2DCondition(UNetConfig.from_dict(unet_config(family, **{"layers_per_block": 2} | changes))).eval()
    randomise(model, seed)
    return model


def tiny_vae(seed: int = 0, **changes: Any) -> AutoencoderKL:
    """Our autoencoder with random weights, whose tiles are small."""
    model = AutoencoderKL(VAEConfig.from_dict(vae_config(**{"sample_size": 16} | changes))).eval()
    randomise(model, seed)
    return model


def tiny_taesd(seed: int = 0, **changes: Any) -> TinyAutoencoder:
    """Our tiny autoencoder with random weights."""
    model = TinyAutoencoder(TinyVAEConfig.from_dict(taesd_config(**changes))).eval()
    randomise(model, seed)
    return model


def tiny_clip(seed: int = 0, **changes: Any) -> CLIPTextModel:
    """Our text encoder with random weights."""
    model = CLIPTextModel(CLIPTextConfig.from_dict(clip_config(**changes))).eval()
    randomise(model, seed)
    return model


def oracle_of(model: nn.Module, **changes: Any) -> Any:
    """The oracle's network of the same config, but for `changes`, with the weights of `model`. Raises AssertionError
    where the names or the shapes of the parameters differ."""
    config: dict[str, Any] = model.config.to_dict() | changes  # pyright: ignore -- a config of ours
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
