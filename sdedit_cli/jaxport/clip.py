"""CLIP's towers (arXiv 2103.00020) as functions of their arrays: the text encoder, and the eyes of the safety checker.

Shapes: B rows, T tokens, H W picture, C width.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax.numpy as jnp
from jax import Array

from ..configs.clip import CLIPTextConfig
from .attention import clip_layer
from .layers import ACTIVATIONS, Arrays, At, conv, layer_norm


def encode_text(arrays: Arrays, config: CLIPTextConfig, ids_BT: Array, clip_skip: int | None = None) -> Array:
    """The last hidden state (or the one that many layers before it) after the final norm: [B, T, C]."""
    w, act = At(arrays) / "text_model", ACTIVATIONS[config.hidden_act]
    positions_TC = w["embeddings.position_embedding.weight"][: ids_BT.shape[1]]
    x_BTC = w["embeddings.token_embedding.weight"][ids_BT] + positions_TC
    for i in range(config.num_hidden_layers - (clip_skip or 0)):
        layer = w / "encoder" / "layers" / i
        x_BTC = clip_layer(
            layer, x_BTC, heads=config.num_attention_heads, eps=config.layer_norm_eps, act=act, causal=True
        )
    return layer_norm(w / "final_layer_norm", x_BTC, config.layer_norm_eps)


@dataclass(frozen=True)
class VisionConfig:
    """The keys of a CLIP vision tower's config, with the defaults that a missing key has."""

    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    image_size: int = 224
    patch_size: int = 32
    hidden_act: str = "quick_gelu"
    layer_norm_eps: float = 1e-5


def look(arrays: Arrays, config: VisionConfig, x_BHWC: Array) -> Array:
    """What the tower sees in prepared pictures, pooled: [B, C]."""
    w, eps, act = At(arrays) / "vision_model", config.layer_norm_eps, ACTIVATIONS[config.hidden_act]
    patches_BTC = conv(w / "embeddings" / "patch_embedding", x_BHWC, stride=config.patch_size, bias=False)
    patches_BTC = patches_BTC.reshape(len(x_BHWC), -1, config.hidden_size)
    first_BTC = jnp.broadcast_to(w["embeddings.class_embedding"], (len(x_BHWC), 1, config.hidden_size))
    x_BTC = jnp.concatenate([first_BTC, patches_BTC], axis=1) + w["embeddings.position_embedding.weight"]
    x_BTC = layer_norm(w / "pre_layrnorm", x_BTC, eps)
    for i in range(config.num_hidden_layers):
        layer = w / "encoder" / "layers" / i
        x_BTC = clip_layer(layer, x_BTC, heads=config.num_attention_heads, eps=eps, act=act, causal=False)
    return layer_norm(w / "post_layernorm", x_BTC[:, 0], eps)
