"""Prompts to text embeddings: tokenize, encode, repeat for several pictures a prompt.

B prompts, T tokens, C channels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import UsageError
from ..nn import CLIPTextModel
from ..text import Tokenizer


@dataclass(frozen=True)
class Encoded:
    """Text embeddings (B, T, C), and for each text the part that did not fit ('' when all did)."""

    embeds_BTC: Tensor
    truncated: tuple[str, ...]


def encode_texts(
    tokenizer: Tokenizer,
    text_encoder: CLIPTextModel,
    texts: Sequence[str],
    *,
    clip_skip: int | None = None,
    length: int | None = None,
) -> Encoded:
    """Embeddings of `texts`, padded or cut to `length` tokens (the tokenizer's own maximum by default).

    `clip_skip` takes the hidden state that many layers before the last, then the final norm.
    Raises UsageError when the encoder has fewer layers than that.
    """
    encoded = [tokenizer.encode(text) for text in texts]
    rows = [_resize(item.ids, length, tokenizer) for item in encoded]
    return Encoded(encode_ids(text_encoder, rows, clip_skip), tuple(item.truncated for item in encoded))


def encode_ids(text_encoder: CLIPTextModel, rows: Sequence[Sequence[int]], clip_skip: int | None = None) -> Tensor:
    """Embeddings (B, T, C) of rows of token ids; see `encode_texts`."""
    ids_BT = torch.tensor(rows, dtype=torch.long, device=text_encoder.device)
    out = text_encoder(ids_BT)
    if clip_skip is None:
        return out.last_hidden_state
    layers = len(out.hidden_states) - 1
    if not 0 <= clip_skip <= layers:
        raise UsageError(f"clip_skip is {clip_skip}; this text encoder has {layers} layers to skip")
    return text_encoder.final_norm(out.hidden_states[-(clip_skip + 1)])


def _resize(ids: list[int], length: int | None, tokenizer: Tokenizer) -> list[int]:
    if length is None or length == len(ids):
        return ids
    if length > len(ids):
        return ids + [tokenizer.pad_id] * (length - len(ids))
    return [*ids[: length - 1], tokenizer.eos_id]


def repeat_rows(embeds_BTC: Tensor, count: int) -> Tensor:
    """Each prompt's embedding `count` times in a row: prompt-major, as pictures come out."""
    return embeds_BTC.repeat_interleave(count, dim=0)


def guidance_embedding(w_B: Tensor, dim: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Sinusoidal embedding (B, dim) of guidance scales, for models distilled on them (arXiv 2310.04378).

    The form is that of timesteps (arXiv 1706.03762, section 3.5) at 1000 w: sines, then cosines, zero-padded when odd.
    """
    half = dim // 2
    step = math.log(10000.0) / max(half - 1, 1)
    frequencies = torch.exp(torch.arange(half, dtype=dtype, device=w_B.device) * -step)
    angles = (w_B * 1000.0).to(dtype)[:, None] * frequencies[None, :]
    embedding = torch.cat([torch.sin(angles), torch.cos(angles)], dim=1)
    return torch.nn.functional.pad(embedding, (0, dim % 2))
