"""What a caller's function sees and changes between two steps.

B rows, T tokens, C channels, H height, W width. With guidance the prompt embeddings have 2 B rows, negative ones first.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..engine.denoise import Running
from ..errors import UsageError
from ..nn import UNet2DCondition
from .arguments import CALLBACK_TENSORS, check_callback_tensors


class Conversation:
    """One run's talk with its callback: the embeddings in force, and whether somebody touched them."""

    def __init__(self, running: Running, unet: UNet2DCondition, embeds: Tensor, names: tuple[str, ...]) -> None:
        self.running = running
        self.unet = unet
        self.embeds = embeds
        self.names = names

    def tensors(self) -> dict[str, Tensor | None]:
        """What the callback asked for."""
        negative = self.embeds[: len(self.running.x_BCHW)] if self.running.guided else None
        given = zip(CALLBACK_TENSORS, (self.running.x_BCHW, self.embeds, negative), strict=True)
        known: dict[str, Tensor | None] = dict(given)
        return {name: known[name] for name in self.names}

    def take(self, shown: dict[str, Tensor | None], returned: dict[str, Any], guided: bool, scale: float) -> None:
        """Goes on with what the callback returned, under the guidance that it left.

        Raises UsageError for other names than were offered, and for tensors whose rows do not fit.
        """
        check_callback_tensors(list(returned), returned=True)
        running = self.running
        count = len(running.x_BCHW)
        latents: Tensor = returned.get("latents", running.x_BCHW)
        if latents.shape != running.x_BCHW.shape:
            raise UsageError(
                f"the callback returned latents {tuple(latents.shape)}; expected {tuple(running.x_BCHW.shape)}"
            )
        embeds: Tensor = returned.get("prompt_embeds", self.embeds)
        negative = returned.get("negative_prompt_embeds")
        # The one that was shown is a part of the prompt embeddings, and says nothing new.
        if guided and negative is not None and negative is not shown.get("negative_prompt_embeds"):
            embeds = torch.cat([negative, embeds[-count:]])
        rows = count * (2 if guided else 1)
        if len(embeds) != rows:
            raise UsageError(
                f"after the callback there are {len(embeds)} rows of prompt embeddings for {count} pictures "
                f"{'with' if guided else 'without'} guidance; return prompt_embeds with {rows}"
            )
        running.x_BCHW, running.guided, running.guidance_scale = latents, guided, scale
        # Tensors may have been changed in place, which only those who saw them can do.
        if "prompt_embeds" in self.names or "negative_prompt_embeds" in self.names or embeds is not self.embeds:
            running.context = self.unet.context(embeds)
        self.embeds = embeds
