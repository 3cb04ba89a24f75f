"""The VAE's modules: LDM counts the decoder's levels from the picture up, diffusers from the latents down."""

from __future__ import annotations

from collections.abc import Iterator

from ..configs.vae import VAEConfig
from .table import Pair, Table

# foreign leaf, our leaf, rule
_ATTENTION = (
    ("norm", "group_norm", "same"),
    ("q", "to_q", "conv1x1"),
    ("k", "to_k", "conv1x1"),
    ("v", "to_v", "conv1x1"),
    ("proj_out", "to_out.0", "conv1x1"),
)


def vae_table(config: VAEConfig) -> Table:
    """All modules of an AutoencoderKL that have parameters."""
    return tuple(_vae(config))


def _vae(config: VAEConfig) -> Iterator[Pair]:
    channels = tuple(config.block_out_channels)
    levels = len(channels)
    yield Pair("encoder.conv_in", ("encoder.conv_in",))
    width = channels[0]
    for i, out in enumerate(channels):
        for j in range(config.layers_per_block):
            theirs, ours = f"encoder.down.{i}.block.{j}", f"encoder.down_blocks.{i}.resnets.{j}"
            yield from _resnet(theirs, ours, shortcut=width != out)
            width = out
        if i < levels - 1:
            yield Pair(f"encoder.down.{i}.downsample.conv", (f"encoder.down_blocks.{i}.downsamplers.0.conv",))
    yield from _ends("encoder", config)

    yield Pair("decoder.conv_in", ("decoder.conv_in",))
    yield from _ends("decoder", config)
    width = channels[-1]
    for i, out in enumerate(reversed(channels)):
        level = levels - 1 - i
        for j in range(config.layers_per_block + 1):
            theirs, ours = f"decoder.up.{level}.block.{j}", f"decoder.up_blocks.{i}.resnets.{j}"
            yield from _resnet(theirs, ours, shortcut=width != out)
            width = out
        if level > 0:
            yield Pair(f"decoder.up.{level}.upsample.conv", (f"decoder.up_blocks.{i}.upsamplers.0.conv",))

    if config.use_quant_conv:
        yield Pair("quant_conv", ("quant_conv",))
    if config.use_post_quant_conv:
        yield Pair("post_quant_conv", ("post_quant_conv",))


def _ends(half: str, config: VAEConfig) -> Iterator[Pair]:
    for n in (1, 2):
        yield from _resnet(f"{half}.mid.block_{n}", f"{half}.mid_block.resnets.{n - 1}", shortcut=False)
    if config.mid_block_add_attention:
        for foreign, leaf, rule in _ATTENTION:
            yield Pair(f"{half}.mid.attn_1.{foreign}", (f"{half}.mid_block.attentions.0.{leaf}",), rule)
    yield Pair(f"{half}.norm_out", (f"{half}.conv_norm_out",))
    yield Pair(f"{half}.conv_out", (f"{half}.conv_out",))


def _resnet(theirs: str, ours: str, shortcut: bool) -> Iterator[Pair]:
    for leaf in ("norm1", "conv1", "norm2", "conv2"):
        yield Pair(f"{theirs}.{leaf}", (f"{ours}.{leaf}",))
    if shortcut:
        yield Pair(f"{theirs}.nin_shortcut", (f"{ours}.conv_shortcut",))
