"""The denoising UNet of Stable Diffusion (arXiv 2112.10752), read top to bottom as data flows.

Shapes: B rows, C channels, H W latent picture, T tokens, E time embedding, G guidance embedding, K text width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from ..configs.unet import Level, UNetConfig
from .attention import Attention
from .base import Conv2d, GroupNorm, Model
from .blocks import DownBlock, MidBlock, UpBlock
from .context import Context
from .deep import Deep
from .freeu import FreeU
from .layers import ACTIVATIONS, TimeEmbedding, norm_then_act, sinusoid

Way = Callable[..., Tensor]
"""From a UNet and the arguments of its `forward` to the result of that."""


class UNet2DCondition(Model[UNetConfig]):
    """Predicts from a noisy latent, its time and a text what the scheduler's prediction type asks for.

    `way` is how hardware gets there in the loop of an edit (`step`): a captured graph, say. It may be changed between
    calls, as the operations may.

    Raises ModelError when the config describes a network that this program cannot build.
    """

    def __init__(self, config: UNetConfig) -> None:
        super().__init__(config)
        config.check()
        self.act = ACTIVATIONS[config.act_fn]
        downs, ups = config.down_levels(), config.up_levels()
        first = config.block_out_channels[0]

        self.conv_in = Conv2d(config.in_channels, first, config.conv_in_kernel, padding=config.conv_in_kernel // 2)
        self.time_embedding = TimeEmbedding(first, config.time_dim, self.act, config.time_cond_proj_dim)
        self.add_embedding = None
        if config.addition_embed_type == "text_time":
            features = cast(int, config.projection_class_embeddings_input_dim)
            self.add_embedding = TimeEmbedding(features, config.time_dim, ACTIVATIONS["silu"])

        entering = [first, *(level.channels for level in downs)]
        self.down_blocks = nn.ModuleList(
            DownBlock(config, level, entering[i], i == len(downs) - 1, self.ops) for i, level in enumerate(downs)
        )
        self.mid_block = MidBlock(config, config.mid_level(), self.ops) if config.mid_block_type else None
        self.up_blocks = nn.ModuleList(
            UpBlock(config, level, widths, i == len(ups) - 1, self.ops)
            for i, (level, widths) in enumerate(zip(ups, joined_widths(first, downs, ups), strict=True))
        )
        self.conv_norm_out = GroupNorm(config.norm_num_groups, first, config.norm_eps)
        self.conv_out = Conv2d(first, config.out_channels, config.conv_out_kernel, padding=config.conv_out_kernel // 2)

        for slot, layer in enumerate(self.cross_attentions()):
            layer.slot = slot
        self.way: Way | None = None

    def cross_attentions(self) -> list[Attention]:
        """The layers that read the text, in the order of `Context.kv`: down, bottom, up."""
        return [layer for layer in self.modules() if isinstance(layer, Attention) and layer.crosses]

    def embed_time(
        self,
        t_B: Tensor,
        *,
        dtype: torch.dtype | None = None,
        guidance_BG: Tensor | None = None,
        added: Mapping[str, Tensor] | None = None,
    ) -> Tensor:
        """The embedding of B timesteps (of all steps at once if you like): [B, E].

        `guidance_BG` is LCM's guidance embedding; `added` holds SDXL's "text_embeds" [B, K] and "time_ids" [B, n].
        Raises ValueError when the network needs `added` and does not get it.
        """
        config, dtype = self.config, dtype or self.dtype
        t_B = t_B.to(self.device)
        features = sinusoid(t_B, config.block_out_channels[0], config.flip_sin_to_cos, config.freq_shift).to(dtype)
        if guidance_BG is not None:
            guidance_BG = guidance_BG.to(self.device, dtype)
        emb_BE = self.time_embedding(features, guidance_BG)
        if self.add_embedding is None:
            return emb_BE
        if added is None or not {"text_embeds", "time_ids"} <= added.keys():
            raise ValueError(
                "this UNet (addition_embed_type 'text_time') needs added={'text_embeds': ..., 'time_ids': ...}"
            )
        ids_B, dim = added["time_ids"].to(self.device), cast(int, config.addition_time_embed_dim)
        ids = sinusoid(ids_B.flatten(), dim, config.flip_sin_to_cos, config.freq_shift).view(ids_B.shape[0], -1)
        text = added["text_embeds"].to(self.device)
        return emb_BE + self.add_embedding(torch.cat([text, ids], dim=-1).to(dtype))

    def context(self, text_BTC: Tensor) -> Context:
        """The keys and values of a text in every cross-attention layer, computed once for all steps."""
        return Context(tuple(layer.keys(text_BTC) for layer in self.cross_attentions()))

    def step(self, *arguments: Any) -> Tensor:
        """What `forward` gives, by `way` where there is one."""
        return self(*arguments) if self.way is None else self.way(self, *arguments)

    def forward(
        self, x_BCHW: Tensor, emb_BE: Tensor, context: Context, freeu: FreeU | None = None, deep: Deep | None = None
    ) -> Tensor:
        """[B, out_channels, H, W], from latents, `embed_time`'s result and `context`'s; any H and W.

        `freeu` re-weights the joining of backbone and skips (arXiv 2309.11497). With `deep` features of an earlier call
        only the first and the last layers are computed; without them they are put there.
        """
        if self.config.center_input_sample:
            x_BCHW = 2 * x_BCHW - 1.0
        emb_BE = self.act(emb_BE)
        context = context.over(*x_BCHW.shape[-2:])

        x_BCHW = self.conv_in(x_BCHW)
        skips = [x_BCHW]
        if deep is None or deep.x_BCHW is None:
            for block in self.down_blocks:
                x_BCHW, new_skips = block(x_BCHW, emb_BE, context)
                skips += new_skips
            if self.mid_block is not None:
                x_BCHW = self.mid_block(x_BCHW, emb_BE, context)
            for index, block in enumerate(self.up_blocks):
                x_BCHW = block(x_BCHW, skips, emb_BE, context, freeu, index, deep)
        else:
            top = cast("UpBlock", self.up_blocks[-1])
            x_BCHW = top.last_layer(deep.x_BCHW, skips, emb_BE, context, freeu, len(self.up_blocks) - 1)
        return self.conv_out(norm_then_act(x_BCHW, self.conv_norm_out, self.act, self.ops))


def joined_widths(first: int, downs: list[Level], ups: list[Level]) -> list[list[int]]:
    """Channels that enter each resnet of each up block: the stream's plus those of the skip it takes."""
    skips = [first]
    for i, level in enumerate(downs):
        skips += [level.channels] * (level.layers + (i < len(downs) - 1))
    stream, widths = downs[-1].channels, list[list[int]]()
    for level in ups:
        widths.append([])
        for _ in range(level.layers):
            widths[-1].append(stream + skips.pop())
            stream = level.channels
    return widths
