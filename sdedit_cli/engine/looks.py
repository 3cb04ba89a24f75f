"""What an autoencoder makes of the picture that it saw last: edits of one picture one after the other share it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

from ..nn import AutoencoderKL, Gaussian

Look: TypeAlias = Callable[[AutoencoderKL, Tensor], Gaussian]


class LastLook:
    """A `Look` that keeps the last distribution, bit for bit what the autoencoder would say again; of the picture it
    keeps a hash alone."""

    def __init__(self) -> None:
        self._last: tuple[AutoencoderKL, object, Gaussian] | None = None

    def __call__(self, vae: AutoencoderKL, image_BCHW: Tensor) -> Gaussian:
        key = (vae.pieces, vae.encoder.conv_in.wrap, image_BCHW.dtype, image_BCHW.shape, _digest(image_BCHW))
        if self._last is None or self._last[0] is not vae or self._last[1] != key:
            self._last = None  # two are not held at a time
            self._last = (vae, key, vae.encode(image_BCHW))
        return self._last[2]


def _digest(image_BCHW: Tensor) -> bytes:
    data = image_BCHW.detach().cpu().contiguous().view(torch.uint8).numpy().data
    return hashlib.blake2b(data, digest_size=32).digest()
