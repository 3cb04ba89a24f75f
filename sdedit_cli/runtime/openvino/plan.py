"""What a converted network is of, apart from its weights and the size of the picture.

Shapes: B rows, C channels, H W latents or picture, E time embedding, N heads, S keys, D width of a head.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, cast

import torch
from torch import Tensor, nn

from ...configs.unet import UNetConfig
from ...configs.vae import VAEConfig
from ...nn import AutoencoderKL, Context, FreeU, ImageSource, UNet2DCondition, Wrap
from ...nn.base import Conv2d, Model
from .machine import release

# To be raised when another conversion of the same network is wanted.
_OURS = 1


@dataclass(frozen=True)
class Plan:
    """A method of a network of this config, whose convolutions of these names have another `padding` than zeros.

    Of a UNet: how many `layers` read a text, and for each of the `images` its scales in them and whether it has masks.
    """

    config: UNetConfig | VAEConfig
    method: str
    dtype: torch.dtype
    wrap: Wrap
    layers: int = 0
    freeu: FreeU | None = None
    images: tuple[tuple[tuple[float, ...], bool], ...] = ()
    padding: tuple[tuple[str, str], ...] = ()

    @property
    def name(self) -> str:
        """Another one for whatever would be converted to something else."""
        said = f"{_OURS} {release()} {torch.__version__} {self!r}"
        return f"openvino-{self.method}-{sha256(said.encode()).hexdigest()[:32]}"

    def network(self) -> Model[Any]:
        """A network of the config, without weights."""
        with torch.device("meta"):
            made = UNet2DCondition(self.config) if isinstance(self.config, UNetConfig) else AutoencoderKL(self.config)
        for name, mode in self.padding:
            vars(made.get_submodule(name))["padding_mode"] = mode
        return made.eval().to(self.dtype)

    def arguments(self, inputs: Sequence[Tensor]) -> tuple[Any, ...]:
        """What the method takes, of the tensors that `flat` has put in a row."""
        if self.method != "forward":
            return tuple(inputs)
        x_BCHW, emb_BE, *rest = inputs
        kv, rest = _pairs(rest[: 2 * self.layers]), rest[2 * self.layers :]
        images: list[ImageSource] = []
        for scales, has_masks in self.images:
            pairs: list[tuple[Tensor, Tensor]] = []
            masks: list[Tensor] = []
            for scale in scales:
                if not scale:  # its keys are not read
                    pairs.append((x_BCHW, x_BCHW))
                    masks += [x_BCHW] * has_masks
                    continue
                pairs.append((rest[0], rest[1]))
                masks += rest[2:3] * has_masks
                rest = rest[3 if has_masks else 2 :]
            images.append(ImageSource(tuple(pairs), scales, tuple(masks)))
        return x_BCHW, emb_BE, Context(kv, tuple(images)), self.freeu


def padding_of(network: Model[Any]) -> tuple[tuple[str, str], ...]:
    """The convolutions whose `padding_mode` a script has set."""
    modules = cast("Iterator[tuple[str, nn.Module]]", network.named_modules())
    found = ((name, module) for name, module in modules if isinstance(module, Conv2d))
    return tuple((name, conv.padding_mode) for name, conv in found if conv.padding_mode != "zeros")


def flat(x_BCHW: Tensor, emb_BE: Tensor, context: Context) -> list[Tensor]:
    """All tensors that a UNet reads, in a row."""
    tensors = [x_BCHW, emb_BE, *(part for pair in context.kv for part in pair)]
    for image in context.images:
        for slot, scale in enumerate(image.scales):
            if scale:
                tensors += [*image.kv[slot], *image.masks[slot : slot + 1]]
    return tensors


def _pairs(parts: Sequence[Tensor]) -> tuple[tuple[Tensor, Tensor], ...]:
    return tuple(zip(parts[::2], parts[1::2], strict=True))
