"""The real models' configs, and lists of their tensors: every name with its shape, in both layouts.

`python tests/helpers/names.py` (with `tests` on the path) writes tests/data/keys/*.json again. The names in diffusers
layout are the oracle's own, built on the meta device; those in LDM layout were accepted by the oracle's converters.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from sdedit_cli.configs.clip import CLIPTextConfig
from sdedit_cli.configs.unet import UNetConfig
from sdedit_cli.configs.vae import VAEConfig

KEYS = Path(__file__).parent.parent / "data" / "keys"
STORED = ("sd15", "sd21", "sdxl")
MODELS = (*STORED, "sdxl_refiner")
# Buffers that the training code leaves in a file: all of them follow from the noise schedule.
SCHEDULE_BUFFERS = (
    "betas",
    "alphas_cumprod",
    "alphas_cumprod_prev",
    "sqrt_alphas_cumprod",
    "sqrt_one_minus_alphas_cumprod",
    "log_one_minus_alphas_cumprod",
    "sqrt_recip_alphas_cumprod",
    "sqrt_recipm1_alphas_cumprod",
    "posterior_variance",
    "posterior_log_variance_clipped",
    "posterior_mean_coef1",
    "posterior_mean_coef2",
)
EMA_SCALARS = ("model_ema.decay", "model_ema.num_updates")

_VAE: dict[str, Any] = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
    "sample_size": 512,
}
_XL_VAE = {**_VAE, "sample_size": 1024, "scaling_factor": 0.13025}
_CLIP_L: dict[str, Any] = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_attention_heads": 12,
    "projection_dim": 768,
}
_CLIP_G: dict[str, Any] = {
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_hidden_layers": 32,
    "num_attention_heads": 20,
    "projection_dim": 1280,
    "hidden_act": "gelu",
}
_XL: dict[str, Any] = {
    "sample_size": 128,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
}

CONFIGS: dict[str, dict[str, dict[str, Any]]] = {
    "sd15": {
        "unet": {"sample_size": 64, "cross_attention_dim": 768, "attention_head_dim": 8},
        "vae": _VAE,
        "text_encoder": _CLIP_L,
    },
    "sd21": {
        "unet": {
            "sample_size": 96,
            "cross_attention_dim": 1024,
            "attention_head_dim": (5, 10, 20, 20),
            "use_linear_projection": True,
            "upcast_attention": True,
        },
        "vae": {**_VAE, "sample_size": 768},
        "text_encoder": {
            "hidden_size": 1024,
            "intermediate_size": 4096,
            "num_hidden_layers": 23,
            "num_attention_heads": 16,
            "projection_dim": 512,
            "hidden_act": "gelu",
        },
    },
    "sdxl": {
        "unet": {
            **_XL,
            "block_out_channels": (320, 640, 1280),
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            "transformer_layers_per_block": (1, 2, 10),
            "attention_head_dim": (5, 10, 20),
            "cross_attention_dim": 2048,
            "projection_class_embeddings_input_dim": 2816,
        },
        "vae": _XL_VAE,
        "text_encoder": _CLIP_L,
        "text_encoder_2": _CLIP_G,
    },
    "sdxl_refiner": {
        "unet": {
            **_XL,
            "block_out_channels": (384, 768, 1536, 1536),
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
            "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            "transformer_layers_per_block": 4,
            "attention_head_dim": (6, 12, 24, 24),
            "cross_attention_dim": 1280,
            "projection_class_embeddings_input_dim": 2560,
        },
        "vae": _XL_VAE,
        "text_encoder_2": _CLIP_G,
    },
}
_CLASSES = {"unet": UNetConfig, "vae": VAEConfig, "text_encoder": CLIPTextConfig, "text_encoder_2": CLIPTextConfig}

Shapes = dict[str, tuple[int, ...]]


def real_config(model: str, component: str) -> Any:
    return _CLASSES[component](**CONFIGS[model][component])


@cache
def real_keys(model: str) -> dict[str, Shapes]:
    """Name -> shape of a real model: under 'ldm' of its single file, and under each component's name of its folder."""
    data = json.loads((KEYS / f"{model}.json").read_text()) if model in STORED else _lists(model)
    return {part: {name: tuple(shape) for name, shape in shapes.items()} for part, shapes in data.items()}


def oracle_shapes(model: str, component: str) -> Shapes:
    """A component's state dict as the oracle builds it from the same config, without memory for the weights."""
    import torch
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig as OracleConfig
    from transformers import CLIPTextModel, CLIPTextModelWithProjection

    config = {k: v for k, v in real_config(model, component).to_dict().items() if k not in ("_class_name",)}
    with torch.device("meta"):
        if component == "unet":
            module: Any = UNet2DConditionModel(**config)
        elif component == "vae":
            module = AutoencoderKL(**config)
        else:
            cls = CLIPTextModelWithProjection if component == "text_encoder_2" else CLIPTextModel
            module = cls(OracleConfig(**CONFIGS[model][component]))
    state = {name: tuple(t.shape) for name, t in module.state_dict().items() if not name.endswith("position_ids")}
    if component.startswith("text") and not any(name.startswith("text_model.") for name in state):
        state = {f"text_model.{name}": shape for name, shape in state.items()}
    return state


def _ldm_shapes(model: str, parts: dict[str, Shapes]) -> Shapes:
    """The single file of a real model: the components under LDM's names, and what its training code left in it."""
    from sdedit_cli.names import ldm
    from sdedit_cli.names.table import origins
    from sdedit_cli.weights.checkpoint.renamed import OPERATIONS

    shapes: Shapes = {}
    for component, ours in parts.items():
        for name, origin in origins(ldm_table(model, component), ours, to="foreign").items():
            shapes[name] = OPERATIONS[origin.operation].shape([ours[s] for s in origin.sources], origin)
    if model == "sd15":
        shapes[ldm.CLIP + "text_model.embeddings.position_ids"] = (1, 77)
    if model == "sdxl":
        shapes[ldm.SDXL_CLIP + "text_model.embeddings.position_ids"] = (1, 77)
    if model == "sd21":
        first = f"{ldm.OPENCLIP}transformer.resblocks.0."
        last = {name.replace(".0.", ".23.", 1): shape for name, shape in shapes.items() if name.startswith(first)}
        shapes |= {**last, ldm.OPENCLIP + "text_projection": (1024, 1024), ldm.OPENCLIP + "logit_scale": ()}
    for prefix in (ldm.SDXL_OPENCLIP, ldm.REFINER_OPENCLIP):
        if prefix + "ln_final.weight" in shapes:
            shapes[prefix + "logit_scale"] = ()
    if model.startswith("sd1") or model == "sd21":
        shapes |= dict.fromkeys(SCHEDULE_BUFFERS, (1000,)) | dict.fromkeys(EMA_SCALARS, ())
    return shapes


def ldm_table(model: str, component: str) -> Any:
    """The table between LDM's names (prefix included) and ours for a component of a real model."""
    from sdedit_cli.names import ldm
    from sdedit_cli.names.table import prefixed
    from sdedit_cli.names.text import clip_table, openclip_table
    from sdedit_cli.names.unet import unet_table
    from sdedit_cli.names.vae import vae_table

    config = real_config(model, component)
    if component == "unet":
        return prefixed(unet_table(config), ldm.UNET)
    if component == "vae":
        return prefixed(vae_table(config), ldm.VAE)
    if component == "text_encoder_2":
        prefix = ldm.SDXL_OPENCLIP if model == "sdxl" else ldm.REFINER_OPENCLIP
        return prefixed(openclip_table(config, projection=True), prefix)
    if model == "sd21":
        return prefixed(openclip_table(config), ldm.OPENCLIP)
    return prefixed(clip_table(config), ldm.CLIP if model == "sd15" else ldm.SDXL_CLIP)


def _lists(model: str) -> dict[str, Shapes]:
    parts = {component: oracle_shapes(model, component) for component in CONFIGS[model]}
    return {"ldm": _ldm_shapes(model, parts), **parts}


def write_keys() -> None:
    for model in STORED:
        data = _lists(model)
        (KEYS / f"{model}.json").write_text(json.dumps(data, indent=None, separators=(",", ":")) + "\n")
        print(model, {part: len(shapes) for part, shapes in data.items()})


if __name__ == "__main__":
    write_keys()
