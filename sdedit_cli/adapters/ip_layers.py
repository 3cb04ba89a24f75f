"""The layers that an IP-Adapter's file numbers: a UNet's attention to text, in the order of the file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ..configs.unet import Level, UNetConfig


@dataclass(frozen=True, slots=True)
class ImageLayer:
    """An attention to the text: its number in files, its module, where it stands, and its widths.

    `part` is down, up or mid; `block` and `attention` count within it, as strengths by block are given.
    """

    number: int
    module: str
    part: str
    block: int
    attention: int
    channels: int
    context_dim: int


def image_layers(config: UNetConfig) -> tuple[ImageLayer, ...]:
    """Files count the attentions of the way down, then up, the bottom's last, those of a block to itself included."""
    places = enumerate(_places(config))
    return tuple(
        ImageLayer(2 * k + 1, f"{block}.attentions.{j}.transformer_blocks.{d}.attn2", part, i, j, *widths)
        for k, (block, part, i, j, d, widths) in places
    )


def _places(config: UNetConfig) -> Iterator[tuple[str, str, int, int, int, tuple[int, int]]]:
    for part, levels in (("down", config.down_levels()), ("up", config.up_levels())):
        for i, level in enumerate(levels):
            yield from _level(f"{part}_blocks.{i}", part, i, level)
    if config.mid_block_type:
        yield from _level("mid_block", "mid", 0, config.mid_level())


def _level(block: str, part: str, i: int, level: Level) -> Iterator[tuple[str, str, int, int, int, tuple[int, int]]]:
    for j, depth in enumerate(level.depths[: level.layers if level.attends else 0]):
        for d in range(depth):
            yield block, part, i, j, d, (level.channels, level.context_dim)
