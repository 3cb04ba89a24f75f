"""UNetConfig: what a `unet/config.json` says, and the levels of the network that follow from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, cast

from ..errors import ModelError
from .base import NetworkConfig
from .check import block_count, divides, level_count, one_of, per_level, refuse, sizes

ACTIVATIONS = ("silu", "swish", "mish", "gelu", "relu")
DOWN_BLOCKS = ("DownBlock2D", "CrossAttnDownBlock2D")
UP_BLOCKS = ("UpBlock2D", "CrossAttnUpBlock2D")
MID_BLOCKS = ("UNetMidBlock2DCrossAttn", "UNetMidBlock2D", None)

SUPPORTED_VALUES: dict[str, tuple[Any, ...]] = {
    "mid_block_type": MID_BLOCKS,
    "act_fn": ACTIVATIONS,
    "resnet_time_scale_shift": ("default", "scale_shift"),
    "addition_embed_type": (None, "text_time"),
    **dict.fromkeys(("class_embed_type", "num_class_embeds", "encoder_hid_dim", "encoder_hid_dim_type"), (None,)),
    **dict.fromkeys(("time_embedding_act_fn", "timestep_post_act", "cross_attention_norm"), (None,)),
    **dict.fromkeys(("class_embeddings_concat", "dual_cross_attention", "resnet_skip_time_act"), (False,)),
    "resnet_out_scale_factor": (1.0, None),
    "time_embedding_type": ("positional",),
    "attention_type": ("default", None),
    "mid_block_only_cross_attention": (None, False),
}
"""Keys of which only some values can be built; any other value is refused by name."""

Depth = int | tuple[int, ...]
"""Transformer blocks in each attention of a level: one number for all of them, or one each."""


class Level(NamedTuple):
    """One resolution of the U: what its down or up block is built from."""

    kind: str
    channels: int
    layers: int
    heads: int
    context_dim: int
    depths: tuple[int, ...]
    only_cross_attention: bool

    @property
    def attends(self) -> bool:
        return self.kind.startswith("CrossAttn")

    @property
    def blocks(self) -> int:
        """Its resnets and transformer blocks."""
        return self.layers + (sum(self.depths[: self.layers]) if self.attends else 0)


@dataclass(frozen=True)
class UNetConfig(NetworkConfig):
    """The keys of a UNet2DConditionModel's config.json, with the defaults that a missing key has.

    `attention_head_dim` holds the *number* of heads unless `num_attention_heads` is given: the file format
    kept the name of a historical mix-up.
    """

    class_name: ClassVar[str] = "UNet2DConditionModel"
    sample_size: int | tuple[int, int] | None = None
    in_channels: int = 4
    out_channels: int = 4
    center_input_sample: bool = False
    flip_sin_to_cos: bool = True
    freq_shift: float = 0
    down_block_types: tuple[str, ...] = ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",)
    mid_block_type: str | None = "UNetMidBlock2DCrossAttn"
    up_block_types: tuple[str, ...] = ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3
    only_cross_attention: bool | tuple[bool, ...] = False
    block_out_channels: tuple[int, ...] = (320, 640, 1280, 1280)
    layers_per_block: int | tuple[int, ...] = 2
    downsample_padding: int = 1
    mid_block_scale_factor: float = 1
    dropout: float = 0.0
    act_fn: str = "silu"
    norm_num_groups: int = 32
    norm_eps: float = 1e-5
    cross_attention_dim: int | tuple[int, ...] = 1280
    transformer_layers_per_block: int | tuple[Depth, ...] = 1
    reverse_transformer_layers_per_block: tuple[Depth, ...] | None = None
    encoder_hid_dim: int | None = None
    encoder_hid_dim_type: str | None = None
    attention_head_dim: int | tuple[int, ...] = 8
    num_attention_heads: int | tuple[int, ...] | None = None
    dual_cross_attention: bool = False
    use_linear_projection: bool = False
    class_embed_type: str | None = None
    addition_embed_type: str | None = None
    addition_time_embed_dim: int | None = None
    num_class_embeds: int | None = None
    upcast_attention: bool = False
    resnet_time_scale_shift: str = "default"
    resnet_skip_time_act: bool = False
    resnet_out_scale_factor: float | None = 1.0
    time_embedding_type: str = "positional"
    time_embedding_dim: int | None = None
    time_embedding_act_fn: str | None = None
    timestep_post_act: str | None = None
    time_cond_proj_dim: int | None = None
    conv_in_kernel: int = 3
    conv_out_kernel: int = 3
    projection_class_embeddings_input_dim: int | None = None
    attention_type: str | None = "default"
    class_embeddings_concat: bool = False
    mid_block_only_cross_attention: bool | None = None
    cross_attention_norm: str | None = None
    addition_embed_type_num_heads: int | None = 64

    @property
    def time_dim(self) -> int:
        return self.time_embedding_dim or self.block_out_channels[0] * 4

    def down_levels(self, source: str = "config") -> list[Level]:
        """The levels from the picture's resolution downwards."""
        depths: Any = self.transformer_layers_per_block
        return self._levels(source, "down_block_types", self.down_block_types, depths, extra=0)

    def up_levels(self, source: str = "config") -> list[Level]:
        """The levels from the bottom upwards: each has one layer more than its counterpart on the way down."""
        if self.reverse_transformer_layers_per_block is not None:
            depths: Any = self.reverse_transformer_layers_per_block[::-1]
        else:
            depths = self.transformer_layers_per_block
        return self._levels(source, "up_block_types", self.up_block_types[::-1], depths, extra=1)[::-1]

    def _levels(self, source: str, key: str, kinds: tuple[str, ...], depths: Any, extra: int) -> list[Level]:
        count = len(self.block_out_channels)
        if len(kinds) != count:
            refuse(source, key, list(kinds), f"{count} names, as 'block_out_channels' has {count} numbers")
        channels = self.block_out_channels
        layers = per_level(source, "layers_per_block", self.layers_per_block, count)
        contexts = per_level(source, "cross_attention_dim", self.cross_attention_dim, count)
        crosses = per_level(source, "only_cross_attention", self.only_cross_attention, count)
        heads_key = "attention_head_dim" if self.num_attention_heads is None else "num_attention_heads"
        heads = per_level(source, heads_key, getattr(self, heads_key), count)
        all_depths = per_level(source, "transformer_layers_per_block", depths, count)
        plain = [
            Level(kinds[i], channels[i], layers[i] + extra, heads[i], contexts[i], (), crosses[i]) for i in range(count)
        ]
        return [level._replace(depths=_depths(source, all_depths[i], level)) for i, level in enumerate(plain)]

    def mid_level(self) -> Level:
        """The bottom of the U: the last level's widths, one attention between two resnets."""
        last = self.down_levels()[-1]
        kind = "CrossAttnMidBlock2D" if self.mid_block_type == "UNetMidBlock2DCrossAttn" else "MidBlock2D"
        return last._replace(kind=kind, layers=1, only_cross_attention=False)

    def check(self, source: str = "config") -> None:
        for key, known in SUPPORTED_VALUES.items():
            one_of(source, key, getattr(self, key), known)
        for key, known in (("down_block_types", DOWN_BLOCKS), ("up_block_types", UP_BLOCKS)):
            for kind in cast("tuple[str, ...]", getattr(self, key)):
                one_of(source, key, kind, known)
        level_count(source, "block_out_channels", self.block_out_channels, _MOST_LEVELS)
        for key in _SIZES:
            if getattr(self, key) is not None:
                sizes(source, key, getattr(self, key))
        for key in ("conv_in_kernel", "conv_out_kernel"):
            if getattr(self, key) % 2 == 0:
                refuse(source, key, getattr(self, key), "an odd number")
        for key in ("layers_per_block", "transformer_layers_per_block"):
            sizes(source, key, getattr(self, key), largest=256)
        self._check_amount(source)
        sizes(source, "downsample_padding", self.downsample_padding, least=0, largest=1)
        if not 0 <= self.dropout < 1:
            refuse(source, "dropout", self.dropout, "0 or more and below 1")
        if self.norm_eps <= 0:
            refuse(source, "norm_eps", self.norm_eps, "a number above 0")
        if self.mid_block_scale_factor == 0:
            refuse(source, "mid_block_scale_factor", 0, "another number than 0")
        self._check_widths(source)
        if self.addition_embed_type == "text_time":
            for key in ("addition_time_embed_dim", "projection_class_embeddings_input_dim"):
                if getattr(self, key) is None:
                    refuse(source, key, None, "a number, as 'addition_embed_type' is 'text_time'")

    def _check_amount(self, source: str) -> None:
        levels = (*self.down_levels(source), *self.up_levels(source), self.mid_level())
        resnets, blocks = (sum(getattr(level, what) for level in levels) for what in ("layers", "blocks"))
        key = "layers_per_block" if 2 * resnets > blocks else "transformer_layers_per_block"
        block_count(source, key, getattr(self, key), blocks)

    def _check_widths(self, source: str) -> None:
        if self.block_out_channels[0] // 2 == self.freq_shift:
            refuse(source, "freq_shift", self.freq_shift, "another number than half of the first 'block_out_channels'")
        heads_key = "attention_head_dim" if self.num_attention_heads is None else "num_attention_heads"
        for level in (*self.down_levels(source), *self.up_levels(source), self.mid_level()):
            divides(source, self.norm_num_groups, level.channels)
            if level.attends and level.channels % level.heads:
                refuse(source, heads_key, level.heads, f"a number of heads that divides {level.channels} channels")


_MOST_LEVELS = 16
_SIZES = (
    "in_channels",
    "out_channels",
    "block_out_channels",
    "norm_num_groups",
    "cross_attention_dim",
    "attention_head_dim",
    "num_attention_heads",
    "addition_time_embed_dim",
    "time_embedding_dim",
    "time_cond_proj_dim",
    "conv_in_kernel",
    "conv_out_kernel",
    "projection_class_embeddings_input_dim",
    "sample_size",
)


def _depths(source: str, depth: Depth, level: Level) -> tuple[int, ...]:
    if isinstance(depth, int):
        return (depth,) * level.layers
    if not depth or (level.attends and len(depth) < level.layers):
        raise ModelError(
            f"{source}: 'transformer_layers_per_block' gives {list(depth)} for a block of {level.layers} layers, "
            f"expected {level.layers} numbers (for the way up: 'reverse_transformer_layers_per_block')"
        )
    return depth
