"""The text encoder's modules: CLIP keeps its names in LDM files, OpenCLIP has its own."""

from __future__ import annotations

from collections.abc import Iterator

from ..configs.clip import CLIPTextConfig
from .table import Pair, Table, same_names

# foreign leaf, our leaf (within a layer)
_OPEN_LAYER = (
    ("ln_1", "layer_norm1"),
    ("attn.out_proj", "self_attn.out_proj"),
    ("ln_2", "layer_norm2"),
    ("mlp.c_fc", "mlp.fc1"),
    ("mlp.c_proj", "mlp.fc2"),
)
_QKV = tuple(f"self_attn.{leaf}_proj" for leaf in "qkv")


def clip_table(config: CLIPTextConfig, projection: bool = False) -> Table:
    """CLIP as LDM files hold it: transformers' own names, `text_model.` prefix included."""
    return same_names(_clip(config, projection))


def _clip(config: CLIPTextConfig, projection: bool) -> Iterator[str]:
    yield "text_model.embeddings.token_embedding"
    yield "text_model.embeddings.position_embedding"
    for i in range(config.num_hidden_layers):
        layer = f"text_model.encoder.layers.{i}"
        for leaf in (*_QKV, *(ours for _, ours in _OPEN_LAYER)):
            yield f"{layer}.{leaf}"
    yield "text_model.final_layer_norm"
    if projection:
        yield "text_projection"


def openclip_table(config: CLIPTextConfig, projection: bool = False) -> Table:
    """OpenCLIP's text tower. `projection`: whether our side has one (SDXL's second encoder does, SD 2.x's has not)."""
    return tuple(_openclip(config, projection))


def _openclip(config: CLIPTextConfig, projection: bool) -> Iterator[Pair]:
    yield Pair("token_embedding", ("text_model.embeddings.token_embedding",))
    yield Pair("positional_embedding", ("text_model.embeddings.position_embedding",), "bare")
    for i in range(config.num_hidden_layers):
        theirs, ours = f"transformer.resblocks.{i}", f"text_model.encoder.layers.{i}"
        yield Pair(f"{theirs}.attn.in_proj", tuple(f"{ours}.{leaf}" for leaf in _QKV), "stacked")
        for foreign, leaf in _OPEN_LAYER:
            yield Pair(f"{theirs}.{foreign}", (f"{ours}.{leaf}",))
    yield Pair("ln_final", ("text_model.final_layer_norm",))
    if projection:
        yield Pair("text_projection", ("text_projection",), "transposed")
