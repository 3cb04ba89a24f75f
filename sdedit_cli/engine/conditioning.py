"""What steers a track besides its latents, as one immutable value.

R rows of the track in the UNet's batch (twice its pictures, the negative ones first, where it is guided), T tokens,
C channels, G guidance embedding.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..nn import Context, FreeU


@dataclass(frozen=True)
class Conditioning:
    """Built once for a prompt by its family, and anew when a callback returns other embeddings."""

    text_RTC: Tensor
    context: Context
    """Of that text (and of image prompts): the cached keys and values of every cross-attention layer."""
    guidance_G: Tensor | None = None
    """The guidance scale, for models that were distilled on it."""
    freeu: FreeU | None = None

    @property
    def company(self) -> tuple[object, ...]:
        """Equal for tracks that can share a UNet call."""
        return (self.freeu, *self.context.shape)
