"""The UNet's modules: LDM numbers its blocks in the order data flows, diffusers by level and kind."""

from __future__ import annotations

from collections.abc import Iterator

from ..configs.unet import Level, UNetConfig
from .table import Pair, Table

# foreign leaf, our leaf
_RESNET = (
    ("in_layers.0", "norm1"),
    ("in_layers.2", "conv1"),
    ("emb_layers.1", "time_emb_proj"),
    ("out_layers.0", "norm2"),
    ("out_layers.3", "conv2"),
)
_SHORTCUT = ("skip_connection", "conv_shortcut")
_TRANSFORMER = (
    *(f"attn{n}.to_{leaf}" for n in (1, 2) for leaf in ("q", "k", "v", "out.0")),
    "ff.net.0.proj",
    "ff.net.2",
    "norm1",
    "norm2",
    "norm3",
)
_EMBEDDING = (("0", "linear_1"), ("2", "linear_2"))


def unet_table(config: UNetConfig) -> Table:
    """All modules of a UNet that have parameters. Raises ModelError for an impossible config."""
    return tuple(_unet(config))


def _unet(config: UNetConfig) -> Iterator[Pair]:
    yield from _embeddings(config)
    yield Pair("input_blocks.0.0", ("conv_in",))

    downs = config.down_levels()
    k, width = 1, downs[0].channels
    for i, level in enumerate(downs):
        for j in range(level.layers):
            yield from _layer(f"input_blocks.{k}", f"down_blocks.{i}", j, level, width != level.channels)
            k, width = k + 1, level.channels
        if i < len(downs) - 1:
            yield Pair(f"input_blocks.{k}.0.op", (f"down_blocks.{i}.downsamplers.0.conv",))
            k += 1

    mid = config.mid_level()
    yield from _resnet("middle_block.0", "mid_block.resnets.0")
    if mid.attends:
        yield from _attention("middle_block.1", "mid_block.attentions.0", mid.depths[0])
    yield from _resnet(f"middle_block.{2 if mid.attends else 1}", "mid_block.resnets.1")

    k = 0
    ups = config.up_levels()
    for i, level in enumerate(ups):
        for j in range(level.layers):
            yield from _layer(f"output_blocks.{k}", f"up_blocks.{i}", j, level, shortcut=True)
            k += 1
        if i < len(ups) - 1:
            place = 2 if level.attends else 1
            yield Pair(f"output_blocks.{k - 1}.{place}.conv", (f"up_blocks.{i}.upsamplers.0.conv",))

    yield Pair("out.0", ("conv_norm_out",))
    yield Pair("out.2", ("conv_out",))


def _embeddings(config: UNetConfig) -> Iterator[Pair]:
    for theirs, ours in _EMBEDDING:
        yield Pair(f"time_embed.{theirs}", (f"time_embedding.{ours}",))
    if config.time_cond_proj_dim is not None:
        # Distilled models carry the guidance embedding, which LDM did not have: files keep our name for it.
        yield Pair("time_embedding.cond_proj", ("time_embedding.cond_proj",))
    if config.addition_embed_type == "text_time":
        for theirs, ours in _EMBEDDING:
            yield Pair(f"label_emb.0.{theirs}", (f"add_embedding.{ours}",))


def _layer(theirs: str, ours: str, j: int, level: Level, shortcut: bool) -> Iterator[Pair]:
    yield from _resnet(f"{theirs}.0", f"{ours}.resnets.{j}", shortcut)
    if level.attends:
        yield from _attention(f"{theirs}.1", f"{ours}.attentions.{j}", level.depths[j])


def _resnet(theirs: str, ours: str, shortcut: bool = False) -> Iterator[Pair]:
    for foreign, leaf in (*_RESNET, _SHORTCUT) if shortcut else _RESNET:
        yield Pair(f"{theirs}.{foreign}", (f"{ours}.{leaf}",))


def _attention(theirs: str, ours: str, depth: int) -> Iterator[Pair]:
    inner = [f"transformer_blocks.{d}.{leaf}" for d in range(depth) for leaf in _TRANSFORMER]
    for leaf in ("norm", "proj_in", *inner, "proj_out"):
        yield Pair(f"{theirs}.{leaf}", (f"{ours}.{leaf}",))
