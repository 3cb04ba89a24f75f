"""Tiny IP-Adapters of every variant with random weights, as their trainers write them, and a tiny image encoder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

Nested = dict[str, dict[str, Tensor]]
HIDDEN, PROJECTED, SIDE = 24, 20, 32
VISION = {
    "hidden_size": HIDDEN,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "image_size": SIDE,
    "patch_size": 8,
    "projection_dim": PROJECTED,
}
RESAMPLER, HEADS, LATENTS, DEPTH = 40, 2, 5, 4  # width, heads of 64, tokens; the reference reads four layers alone
VARIANTS = ("base", "plus", "full")
HIDDEN_FED = ("plus", "full")


def image_encoder(seed: int = 5, **changes: Any) -> Any:
    """transformers' vision tower with random weights."""
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    torch.manual_seed(seed)
    encoder = CLIPVisionModelWithProjection(CLIPVisionConfig(**{**VISION, **changes})).eval()
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return encoder


def extractor(side: int = SIDE) -> Any:
    from transformers import CLIPImageProcessor

    return CLIPImageProcessor(size={"shortest_edge": side}, crop_size={"height": side, "width": side})


def _projection(variant: str, width: int) -> dict[str, list[int]]:
    """The shapes of `image_proj` for a text width."""
    inner = 64 * HEADS
    if variant == "base":
        return {"proj.weight": [4 * width, PROJECTED], "proj.bias": [4 * width], **_norm("norm", width)}
    if variant == "full":
        first = {"proj.0.weight": [HIDDEN, HIDDEN], "proj.0.bias": [HIDDEN]}
        return {**first, "proj.2.weight": [width, HIDDEN], "proj.2.bias": [width], **_norm("proj.3", width)}
    shapes = {"latents": [1, LATENTS, RESAMPLER]}
    shapes |= {"proj_in.weight": [RESAMPLER, HIDDEN], "proj_in.bias": [RESAMPLER]}
    for i in range(DEPTH):
        shapes |= _norm(f"layers.{i}.0.norm1", RESAMPLER) | _norm(f"layers.{i}.0.norm2", RESAMPLER)
        shapes[f"layers.{i}.0.to_q.weight"] = [inner, RESAMPLER]
        shapes[f"layers.{i}.0.to_kv.weight"] = [inner * 2, RESAMPLER]
        shapes[f"layers.{i}.0.to_out.weight"] = [RESAMPLER, inner]
        shapes |= _norm(f"layers.{i}.1.0", RESAMPLER)
        shapes[f"layers.{i}.1.1.weight"] = [RESAMPLER * 4, RESAMPLER]
        shapes[f"layers.{i}.1.3.weight"] = [RESAMPLER, RESAMPLER * 4]
    shapes |= {"proj_out.weight": [width, RESAMPLER], "proj_out.bias": [width]}
    return shapes | _norm("norm_out", width)


def _norm(name: str, width: int) -> dict[str, list[int]]:
    return {f"{name}.weight": [width], f"{name}.bias": [width]}


def adapter(variant: str, oracle_unet: Any, seed: int = 0) -> Nested:
    """A state dict for the reference's UNet: its own attention processors say what number a layer has."""
    generator = torch.Generator().manual_seed(seed)

    def drawn(name: str, shape: list[int]) -> Tensor:
        values = torch.randn(shape, generator=generator)
        if len(shape) == 1:
            return values * 0.1 + (1 if name.endswith("weight") else 0)
        return values if name == "latents" else values * shape[-1] ** -0.5

    width = oracle_unet.config.cross_attention_dim
    projection = {name: drawn(name, shape) for name, shape in _projection(variant, width).items()}
    layers: dict[str, Tensor] = {}
    for number, processor in enumerate(oracle_unet.attn_processors):
        place = processor.removesuffix(".processor")
        if place.endswith("attn2"):
            like = oracle_unet.get_submodule(place).to_k.weight
            layers |= {f"{number}.to_{x}_ip.weight": drawn("", list(like.shape)) for x in "kv"}
    return {"image_proj": projection, "ip_adapter": layers}


def flat(state: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Tensor]:
    return {f"{part}.{name}": tensor.contiguous() for part, own in state.items() for name, tensor in own.items()}


def save_adapter(path: Path, state: Nested) -> Path:
    """A `.bin` pickle, or a `.safetensors` with prefixes."""
    from safetensors.torch import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".safetensors":
        save_file(flat(state), path)
    else:
        torch.save(state, path)
    return path
