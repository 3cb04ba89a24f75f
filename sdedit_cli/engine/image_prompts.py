"""Image prompts: what an image encoder says of pictures, as keys and values that the UNet attends to beside its text.

R rows of a track in the UNet's batch, P pictures of a prompt, S states, E width of what the encoder says, T tokens,
C width of the text, H height, W width, N heads, D width of a head, Q positions of a layer.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..adapters.ip_layers import ImageLayer, image_layers
from ..configs.unet import UNetConfig
from ..errors import UsageError
from ..nn import ImageAdapter, ImageSource, UNet2DCondition
from ..nn.attention import Attention
from ..nn.context import KV
from ..runtime.cpu.wide import wide_products

_COMPILED = "_orig_mod."


@torch.no_grad()
def looked_at(encoder: Any, pixels_PCHW: Tensor, *, states: bool) -> tuple[Tensor, Tensor]:
    """What the encoder says of pictures as it takes them, and what stands for no picture.

    Its embeddings (P, E), and zeros; or its last hidden `states` but one (P, S, E), and those of a picture of zeros.
    Raises UsageError for pictures of another size.
    """
    side: int = encoder.config.image_size
    if pixels_PCHW.ndim != 4 or tuple(pixels_PCHW.shape[1:]) != (3, side, side):
        raise UsageError(
            f"the image encoder takes pictures (3, {side}, {side}), and was given {tuple(pixels_PCHW.shape[1:])}; "
            "prepare them with a feature extractor of that size"
        )
    pixels_PCHW = pixels_PCHW.to(encoder.device, encoder.dtype)
    with wide_products(pixels_PCHW):
        if states:
            return _last_but_one(encoder, pixels_PCHW), _last_but_one(encoder, torch.zeros_like(pixels_PCHW))
        high_PE: Tensor = encoder(pixels_PCHW).image_embeds
    return high_PE, torch.zeros_like(high_PE)


def _last_but_one(encoder: Any, pixels_PCHW: Tensor) -> Tensor:
    """What the last layer reads: with a hook that transformers leaves, no pipeline could be pickled."""
    read: list[Tensor] = []
    asking = threading.get_ident()  # others may have the encoder look at a picture meanwhile

    def keep(_: object, args: tuple[Tensor, ...], kwargs: dict[str, Tensor]) -> None:
        if threading.get_ident() == asking:
            read.append(args[0] if args else kwargs["hidden_states"])

    hook = encoder.vision_model.encoder.layers[-1].register_forward_pre_hook(keep, with_kwargs=True)
    try:
        encoder(pixels_PCHW)
    finally:
        hook.remove()
    (states_PSE,) = read
    return states_PSE


@dataclass(frozen=True)
class Masks:
    """Where pictures count, 1 or 0 (or between), on latents of `size` (height, width)."""

    maps_PHW: Tensor
    size: tuple[int, int]


@dataclass(frozen=True)
class ImagePrompt:
    """Pictures for one adapter: what was said of them (R, P, E) or (R, P, S, E), and how strongly it counts.

    `scales` has the numbers of each layer: one, or with `masks` one or one a picture.
    """

    network: ImageAdapter
    embeds: Tensor
    scales: tuple[tuple[float, ...], ...]
    masks: Masks | None = None


@torch.no_grad()
def image_sources(unet: UNet2DCondition, prompt: ImagePrompt) -> list[ImageSource]:
    """The prompt as the layers of `unet` read it: one source, or with masks one a picture, each of which is attended
    to by itself. None where nothing counts.

    Raises UsageError when the adapter was loaded for another UNet, and for another number of scales than of pictures.
    """
    layers, masks = image_layers(unet.config), prompt.masks
    if tuple(layer.module for layer in layers) != prompt.network.names:
        raise UsageError("the IP-Adapter was loaded for another UNet; load it again for this one")
    tokens_RPTC = prompt.network.tokens(prompt.embeds)
    pictures = tokens_RPTC.shape[1]
    expected = (1,) if masks is None else (1, pictures)
    for numbers in prompt.scales:
        if len(numbers) not in expected:
            one = "one; without masks its pictures are seen together" if masks is None else "one a picture"
            raise UsageError(f"an IP-Adapter has {len(numbers)} scales for {pictures} pictures; expected {one}")
    if masks is None:
        sources = [_source(unet, prompt, layers, tokens_RPTC.flatten(1, 2), 0)]
    else:
        each = [_source(unet, prompt, layers, tokens_RPTC[:, p], p) for p in range(pictures)]
        sources = [
            _masked(unet, source, layers, map_HW, masks.size)
            for source, map_HW in zip(each, masks.maps_PHW, strict=True)
        ]
    return [source for source in sources if any(source.scales)]


def _source(
    unet: UNet2DCondition, prompt: ImagePrompt, layers: Sequence[ImageLayer], tokens_RTC: Tensor, picture: int
) -> ImageSource:
    attentions, found = unet.cross_attentions(), _attentions(unet)
    kv: list[KV] = [_nothing(attention, tokens_RTC, unet.dtype) for attention in attentions]
    scales = [0.0] * len(attentions)
    for layer, keys, numbers in zip(layers, prompt.network.keys, prompt.scales, strict=True):
        number = numbers[picture % len(numbers)]
        if number:
            attention = found[layer.module]
            k_RNTD, v_RNTD = (attention.split(x_RTC).to(unet.dtype) for x_RTC in keys(tokens_RTC))
            kv[attention.slot], scales[attention.slot] = (k_RNTD, v_RNTD), number
    return ImageSource(tuple(kv), tuple(scales))


def _attentions(unet: UNet2DCondition) -> Mapping[str, Attention]:
    modules = cast("Iterator[tuple[str, nn.Module]]", unet.named_modules())
    # What is compiled, as a whole or by parts, stands one level deeper.
    return {name.replace(_COMPILED, ""): module for name, module in modules if isinstance(module, Attention)}


def _nothing(attention: Attention, tokens_RTC: Tensor, dtype: torch.dtype) -> KV:
    """No keys, for a layer that does not read the picture."""
    width = attention.to_q.out_features // attention.heads
    none = tokens_RTC.new_zeros(len(tokens_RTC), attention.heads, 0, width, dtype=dtype)
    return none, none


def _masked(
    unet: UNet2DCondition, source: ImageSource, layers: Sequence[ImageLayer], mask_HW: Tensor, size: tuple[int, int]
) -> ImageSource:
    """The source where the mask is 1 and not where it is 0, at the size that each layer works on."""
    like = source.kv[0][0]
    rows = len(like)
    mask_11HW = mask_HW[None, None].to(like.device, torch.float32)
    masks: list[Tensor] = [like.new_ones(rows, 1, 1)] * len(source.scales)
    found, sizes = _attentions(unet), level_sizes(unet.config, size)
    for layer in layers:
        here = sizes[_level_of(layer, len(sizes))]
        mask_Q = F.interpolate(mask_11HW, size=here, mode="bicubic").flatten().to(like.dtype)
        masks[found[layer.module].slot] = mask_Q[None, :, None].expand(rows, -1, -1)
    return ImageSource(source.kv, source.scales, tuple(masks))


def _level_of(layer: ImageLayer, levels: int) -> int:
    return {"down": layer.block, "mid": levels - 1, "up": levels - 1 - layer.block}[layer.part]


def level_sizes(config: UNetConfig, size: tuple[int, int]) -> list[tuple[int, int]]:
    """The (height, width) of each level of a UNet, from latents of `size` downwards."""
    sizes = [size]
    for _ in config.block_out_channels[1:]:
        height, width = ((side + config.downsample_padding) // 2 for side in sizes[-1])
        sizes.append((height, width))
    return sizes
