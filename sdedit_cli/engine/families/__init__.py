"""What families of checkpoints do in their own ways: one file each. `noise.process` has the processes that they need.

R rows of a track, N rows of the UNet's batch, B pictures, C channels, H height, W width, T tokens, S steps, E time
embedding.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor

from ...nn import Context, Deep, FreeU, UNet2DCondition
from ..components import VAE, TextSide
from ..conditioning import Conditioning
from ..looks import Look
from ..randomness import Generators


class Family(Protocol):
    """How prompts become a Conditioning, how a step calls the network, and how latents are scaled."""

    def encode_ids(self, components: TextSide, rows: Sequence[Sequence[int]], clip_skip: int | None) -> Tensor:
        """Text embeddings (B, T, C) of rows of token ids: of the last layer, or of that many layers before it.

        Raises UsageError when the encoder has fewer layers than that.
        """
        ...

    def condition(
        self, unet: UNet2DCondition, text_RTC: Tensor, guidance_scale: float, freeu: FreeU | None
    ) -> Conditioning:
        """What all steps read of these embeddings, the negative ones first where they are guided."""
        ...

    def embed_time(self, unet: UNet2DCondition, t_S: Tensor, conditioning: Conditioning) -> Tensor:
        """The time embeddings (S, R, E) of all steps, with what else is embedded beside the time."""
        ...

    def predict(
        self,
        unet: UNet2DCondition,
        x_NCHW: Tensor,
        emb_NE: Tensor,
        context: Context,
        freeu: FreeU | None,
        deep: Deep | None = None,
    ) -> Tensor:
        """The network's output (N, C, H, W) for a step; `deep` has features of an earlier one, or gets this one's."""
        ...

    def encode(self, vae: VAE, image_BCHW: Tensor, generator: Generators, look: Look = ...) -> Tensor:
        """Scaled latents of pictures in -1..1; `look` is how the autoencoder's distribution over them is had."""
        ...

    def decode(self, vae: VAE, latents_BCHW: Tensor) -> Tensor:
        """Pictures in about -1..1 of scaled latents."""
        ...
