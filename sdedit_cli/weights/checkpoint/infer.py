"""Configs from the shapes of tensors: what a file without a config.json says about its own architecture.

Shapes do not tell the number of attention heads, of norm groups, and the activation: these are the family's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import count, takewhile
from typing import NamedTuple

from ...configs.clip import CLIPTextConfig
from ...configs.unet import UNetConfig
from ...configs.vae import TinyVAEConfig, VAEConfig
from ...errors import ModelError
from .families import Family, Traits
from .layouts import ADDED, Place, Shapes, Slot


class _Level(NamedTuple):
    channels: int
    layers: int
    depth: int  # transformer blocks of an attention; 0: the level has none


class _UNetNames(NamedTuple):
    """Where a layout keeps what is measured."""

    conv_in: str
    conv_out: str
    time: str
    added: str
    mid: str
    mid_attention: str


_UNET_NAMES = {
    "ldm": _UNetNames(
        "input_blocks.0.0.weight",
        "out.2.weight",
        "time_embed.0.weight",
        ADDED["ldm"],
        "middle_block.",
        "middle_block.1",
    ),
    "diffusers": _UNetNames(
        "conv_in.weight",
        "conv_out.weight",
        "time_embedding.linear_1.weight",
        ADDED["diffusers"],
        "mid_block.",
        "mid_block.attentions.0",
    ),
}


_GUIDANCE = "time_embedding.cond_proj.weight"


def infer_unet(shapes: Shapes, place: Place, family: Family) -> UNetConfig:
    """The config of a UNet whose tensors have these shapes, without their prefix. Raises ModelError if it is none."""
    layout = place.layout
    names = _UNET_NAMES[layout]
    levels = _ldm_levels(shapes) if layout == "ldm" else _diffusers_levels(shapes)
    if not levels:
        raise ModelError("the UNet has no blocks with the layers of a Stable Diffusion UNet")
    attention = _first_attention(shapes, layout)
    channels = tuple(level.channels for level in levels)
    conv_in, conv_out = _shape(shapes, names.conv_in, 4), _shape(shapes, names.conv_out, 4)
    time_dim = _shape(shapes, names.time, 2)[0]
    added = _shape(shapes, names.added, 2) if names.added in shapes else None
    guidance = _shape(shapes, _GUIDANCE, 2) if _GUIDANCE in shapes else None
    # A level without attention has no depth of its own; the bottom's is the mid block's.
    mid_depth = _depth(shapes, names.mid_attention)
    depths = [*(level.depth or 1 for level in levels[:-1]), mid_depth or levels[-1].depth or 1]
    return UNetConfig(
        sample_size=family.sample_size,
        in_channels=conv_in[1],
        out_channels=conv_out[0],
        conv_in_kernel=conv_in[2],
        conv_out_kernel=conv_out[2],
        block_out_channels=channels,
        layers_per_block=_one_or_all([level.layers for level in levels]),
        down_block_types=tuple("CrossAttnDownBlock2D" if level.depth else "DownBlock2D" for level in levels),
        mid_block_type=UNetConfig.mid_block_type if any(name.startswith(names.mid) for name in shapes) else None,
        up_block_types=tuple("CrossAttnUpBlock2D" if level.depth else "UpBlock2D" for level in reversed(levels)),
        transformer_layers_per_block=_one_or_all(depths),
        cross_attention_dim=_shape(shapes, f"{attention}.transformer_blocks.0.attn2.to_k.weight", 2)[1],
        use_linear_projection=len(_shape(shapes, f"{attention}.proj_in.weight")) == 2,
        attention_head_dim=_one_or_all([family.heads(width) for width in channels]),
        upcast_attention=family.upcast_attention,
        time_embedding_dim=None if time_dim == 4 * channels[0] else time_dim,
        time_cond_proj_dim=guidance[1] if guidance else None,
        addition_embed_type="text_time" if added else None,
        addition_time_embed_dim=256 if added else None,
        projection_class_embeddings_input_dim=added[1] if added else None,
    )


def infer_vae(shapes: Shapes, place: Place, family: Family) -> VAEConfig:
    """The config of an AutoencoderKL whose tensors have these shapes, without their prefix."""
    down, block = ("encoder.down", "block") if place.layout == "ldm" else ("encoder.down_blocks", "resnets")
    channels: list[int] = []
    layers = 0
    for i in _while(lambda i: f"{down}.{i}.{block}.0.conv1.weight" in shapes):
        channels.append(_shape(shapes, f"{down}.{i}.{block}.0.conv1.weight", 4)[0])
        layers = len(_while(lambda j, i=i: f"{down}.{i}.{block}.{j}.conv1.weight" in shapes))
    conv_out = _shape(shapes, "encoder.conv_out.weight", 4)
    attention = "encoder.mid.attn_1." if place.layout == "ldm" else "encoder.mid_block.attentions.0."
    return VAEConfig(
        in_channels=_shape(shapes, "encoder.conv_in.weight", 4)[1],
        out_channels=_shape(shapes, "decoder.conv_out.weight", 4)[0],
        block_out_channels=tuple(channels),
        down_block_types=("DownEncoderBlock2D",) * len(channels),
        up_block_types=("UpDecoderBlock2D",) * len(channels),
        layers_per_block=layers,
        latent_channels=conv_out[0] // 2,
        sample_size=family.sample_size * 8,
        scaling_factor=family.scaling_factor,
        use_quant_conv="quant_conv.weight" in shapes,
        use_post_quant_conv="post_quant_conv.weight" in shapes,
        mid_block_add_attention=any(name.startswith(attention) for name in shapes),
    )


class _TextNames(NamedTuple):
    token: str
    position: str
    fc1: str


_TEXT_NAMES = {
    "clip": _TextNames(
        "text_model.embeddings.token_embedding.weight",
        "text_model.embeddings.position_embedding.weight",
        "text_model.encoder.layers.{}.mlp.fc1.weight",
    ),
    "openclip": _TextNames(
        "token_embedding.weight", "positional_embedding", "transformer.resblocks.{}.mlp.c_fc.weight"
    ),
}
# Stable Diffusion 2.x was trained on the output of OpenCLIP's last layer but one: the 24th is in the file, unused.
OPENCLIP_H_LAYERS = 24


def infer_text(shapes: Shapes, place: Place, family: Family) -> CLIPTextConfig:
    """The config of a CLIP text encoder; in Stable Diffusion 2.x without the 24th layer, which it does not use."""
    names = _TEXT_NAMES[place.layout]
    if place.layout == "clip" and names.token not in shapes:
        shapes = {f"text_model.{name}": shape for name, shape in shapes.items()}
    vocabulary, hidden = _shape(shapes, names.token, 2)
    layers = len(_while(lambda i: names.fc1.format(i) in shapes))
    unused = family.name == "sd2" and place.layout == "openclip" and layers == OPENCLIP_H_LAYERS
    second = place.kind == "text_encoder_2"
    # transformers' names serve both: OpenCLIP's encoders are the ones with these widths.
    activation = "gelu" if place.layout == "openclip" or hidden in (1024, 1280) else "quick_gelu"
    return CLIPTextConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=_shape(shapes, names.fc1.format(0), 2)[0],
        num_hidden_layers=layers - 1 if unused else layers,
        num_attention_heads=max(1, hidden // 64),
        max_position_embeddings=_shape(shapes, names.position, 2)[0],
        hidden_act=activation,
        projection_dim=hidden if second else family.projection_dim,
    )


def infer_tiny_vae(shapes: Shapes, place: Place, family: Family) -> TinyVAEConfig:
    """The config of a TAESD: the published ones differ in the number of latent channels only."""
    return TinyVAEConfig(latent_channels=_shape(shapes, "decoder.layers.0.weight", 4)[1])


def traits(shapes: Shapes, places: Mapping[Slot, Place]) -> Traits:
    """What tells the family of a single file. Raises ModelError when its UNet attends to no text."""
    text = places["text_encoder"].layout if "text_encoder" in places else ""
    second = "text_encoder_2" in places
    if "unet" not in places or second:
        return Traits(text, second)
    inner, layout = places["unet"].inside(shapes), places["unet"].layout
    attention = _first_attention(inner, layout)
    width = _shape(inner, f"{attention}.transformer_blocks.0.attn2.to_k.weight", 2)[1]
    linear = len(_shape(inner, f"{attention}.proj_in.weight")) == 2
    added = any(name in inner for name in ADDED.values())
    return Traits(text, second, width, linear, added)


def _ldm_levels(shapes: Shapes) -> list[_Level]:
    levels: list[_Level] = []
    channels = layers = depth = 0
    for k in count(1):
        resnet = f"input_blocks.{k}.0.in_layers.2.weight"
        if resnet in shapes:
            channels, layers, depth = _shape(shapes, resnet, 4)[0], layers + 1, _depth(shapes, f"input_blocks.{k}.1")
            continue
        if layers:
            levels.append(_Level(channels, layers, depth))
        layers = 0
        if f"input_blocks.{k}.0.op.weight" not in shapes:
            break
    return levels


def _diffusers_levels(shapes: Shapes) -> list[_Level]:
    levels: list[_Level] = []
    for i in _while(lambda i: f"down_blocks.{i}.resnets.0.conv1.weight" in shapes):
        layers = _while(lambda j, i=i: f"down_blocks.{i}.resnets.{j}.conv1.weight" in shapes)
        channels = _shape(shapes, f"down_blocks.{i}.resnets.0.conv1.weight", 4)[0]
        levels.append(_Level(channels, len(layers), _depth(shapes, f"down_blocks.{i}.attentions.0")))
    return levels


def _depth(shapes: Shapes, attention: str) -> int:
    return len(_while(lambda d: f"{attention}.transformer_blocks.{d}.norm1.weight" in shapes))


def _first_attention(shapes: Shapes, layout: str) -> str:
    places = (
        [f"input_blocks.{k}.1" for k in range(1, 64)]
        if layout == "ldm"
        else [f"down_blocks.{i}.attentions.0" for i in range(16)]
    )
    places.append(_UNET_NAMES[layout].mid_attention)
    found = next((p for p in places if f"{p}.transformer_blocks.0.attn2.to_k.weight" in shapes), None)
    if found is None:
        raise ModelError("the UNet attends to no text: it is not one of Stable Diffusion's")
    return found


def _while(holds: Callable[[int], bool]) -> list[int]:
    return list(takewhile(holds, count()))


def _one_or_all(values: Sequence[int]) -> int | tuple[int, ...]:
    return values[0] if len(set(values)) == 1 else tuple(values)


def _shape(shapes: Shapes, name: str, ndim: int | None = None) -> tuple[int, ...]:
    shape = shapes.get(name)
    if shape is None:
        raise ModelError(f"'{name}' is not there; the file is incomplete or of another kind")
    if ndim is not None and len(shape) != ndim:
        raise ModelError(f"'{name}' has the shape {list(shape)}, expected {ndim} dimensions")
    return shape
