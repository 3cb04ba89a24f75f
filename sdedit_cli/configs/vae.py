"""VAEConfig and TinyVAEConfig: what a `vae/config.json` says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from .base import NetworkConfig
from .check import block_count, divides, level_count, one_of, refuse, sizes
from .unet import ACTIVATIONS

_MOST_LEVELS = 8  # a latent of 128 pixels a side; pictures are made up to whole latents


@dataclass(frozen=True)
class VAEConfig(NetworkConfig):
    """The keys of an AutoencoderKL's config.json, with the defaults that a missing key has."""

    class_name: ClassVar[str] = "AutoencoderKL"
    in_channels: int = 3
    out_channels: int = 3
    down_block_types: tuple[str, ...] = ("DownEncoderBlock2D",)
    up_block_types: tuple[str, ...] = ("UpDecoderBlock2D",)
    block_out_channels: tuple[int, ...] = (64,)
    layers_per_block: int = 1
    act_fn: str = "silu"
    latent_channels: int = 4
    norm_num_groups: int = 32
    sample_size: int | tuple[int, ...] = 32
    scaling_factor: float = 0.18215
    shift_factor: float | None = None
    latents_mean: tuple[float, ...] | None = None
    latents_std: tuple[float, ...] | None = None
    force_upcast: bool = True
    use_quant_conv: bool = True
    use_post_quant_conv: bool = True
    mid_block_add_attention: bool = True

    @property
    def scale(self) -> int:
        """Pixels along the side of one latent."""
        return 2 ** (len(self.block_out_channels) - 1)

    def check(self, source: str = "config") -> None:
        one_of(source, "act_fn", self.act_fn, ACTIVATIONS)
        level_count(source, "block_out_channels", self.block_out_channels, _MOST_LEVELS)
        for key, known in (("down_block_types", "DownEncoderBlock2D"), ("up_block_types", "UpDecoderBlock2D")):
            kinds: tuple[str, ...] = getattr(self, key)
            for kind in kinds:
                one_of(source, key, kind, (known,))
            if len(kinds) != len(self.block_out_channels):
                refuse(source, key, list(kinds), f"{len(self.block_out_channels)} names, one a level")
        for key in ("in_channels", "out_channels", "block_out_channels", "latent_channels", "norm_num_groups"):
            sizes(source, key, getattr(self, key))
        sizes(source, "layers_per_block", self.layers_per_block, largest=256)
        blocks = (2 * self.layers_per_block + 1) * len(self.block_out_channels)
        block_count(source, "layers_per_block", self.layers_per_block, blocks)
        sizes(source, "sample_size", self.sample_size)
        for channels in self.block_out_channels:
            divides(source, self.norm_num_groups, channels)
        if self.scaling_factor == 0:
            refuse(source, "scaling_factor", 0, "another number than 0")
        for key in ("latents_mean", "latents_std"):
            values: tuple[float, ...] | None = getattr(self, key)
            if values is not None and len(values) != self.latent_channels:
                refuse(source, key, list(values), f"{self.latent_channels} numbers, one a latent channel")


@dataclass(frozen=True)
class TinyVAEConfig(NetworkConfig):
    """The keys of an AutoencoderTiny's config.json (TAESD), with the defaults that a missing key has."""

    class_name: ClassVar[str] = "AutoencoderTiny"
    in_channels: int = 3
    out_channels: int = 3
    encoder_block_out_channels: tuple[int, ...] = (64, 64, 64, 64)
    decoder_block_out_channels: tuple[int, ...] = (64, 64, 64, 64)
    act_fn: str = "relu"
    upsample_fn: str = "nearest"
    latent_channels: int = 4
    upsampling_scaling_factor: int = 2
    num_encoder_blocks: tuple[int, ...] = (1, 3, 3, 3)
    num_decoder_blocks: tuple[int, ...] = (3, 3, 3, 1)
    latent_magnitude: float = 3
    latent_shift: float = 0.5
    force_upcast: bool = False
    scaling_factor: float = 1.0
    shift_factor: float = 0.0

    @property
    def scale(self) -> int:
        """Pixels along the side of one latent."""
        return 2 ** (len(self.encoder_block_out_channels) - 1)

    def check(self, source: str = "config") -> None:
        one_of(source, "act_fn", self.act_fn, ACTIVATIONS)
        one_of(source, "upsample_fn", self.upsample_fn, ("nearest", "nearest-exact", "bilinear", "bicubic"))
        for key in ("in_channels", "out_channels", "latent_channels", "upsampling_scaling_factor"):
            sizes(source, key, getattr(self, key))
        for side in ("encoder", "decoder"):
            widths: tuple[int, ...] = getattr(self, f"{side}_block_out_channels")
            counts: tuple[int, ...] = getattr(self, f"num_{side}_blocks")
            level_count(source, f"{side}_block_out_channels", widths, _MOST_LEVELS)
            sizes(source, f"{side}_block_out_channels", widths)
            sizes(source, f"num_{side}_blocks", counts, largest=256)
            if len(widths) != len(counts):
                refuse(source, f"num_{side}_blocks", list(counts), f"{len(widths)} numbers, one a level")
            if len(set(widths)) > 1:
                refuse(source, f"{side}_block_out_channels", list(widths), "the same width in all levels")
        blocks = sum(self.num_encoder_blocks) + sum(self.num_decoder_blocks)
        block_count(source, "num_decoder_blocks", list(self.num_decoder_blocks), blocks)
