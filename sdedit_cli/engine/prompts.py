"""The prompts of an edit as the text that each step reads: weights, long prompts, and prompts that change on the way.

B prompts (negative first, where there is one), R rows of the text encoder, T tokens, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from ..nn import CLIPTextModel
from ..options import Edit
from ..text import Tokenizer, WeightedChunks, apply_weights, encode_weighted, segments
from ..text.weighting import Long
from .conditioning import encode_ids, encode_texts


@dataclass(frozen=True)
class Spoken:
    """The embeddings (B, T, C) that are in force until step `until`, counted from the first step run."""

    until: int
    embeds_BTC: Tensor


class Speaker:
    """A tokenizer and a text encoder; `truncated` collects what did not fit."""

    def __init__(self, tokenizer: Tokenizer, text_encoder: CLIPTextModel) -> None:
        self.tokenizer = tokenizer
        self.text_encoder = text_encoder
        self.truncated: list[str] = []

    def speak(self, edit: Edit, guided: bool) -> list[Spoken]:
        """What the steps of `edit` read, in order; one entry unless a prompt is scheduled."""
        steps = edit.steps_run()
        texts = [edit.negative_prompt, edit.prompt] if guided else [edit.prompt]
        plans = [segments(text, steps) if edit.weighting else [(steps, text)] for text in texts]
        bounds = sorted({until for plan in plans for until, _ in plan})
        return [Spoken(until, self._batch(edit, [_text_at(plan, until) for plan in plans])) for until in bounds]

    def _batch(self, edit: Edit, texts: Sequence[str]) -> Tensor:
        """One row a text, the positive prompt last: `clip_skip` is for it alone, as in the reference."""
        skips = [*[None] * (len(texts) - 1), edit.clip_skip]
        if not edit.weighting and edit.long_prompts == "truncate":
            return torch.cat([self._plain(text, skip) for text, skip in zip(texts, skips, strict=True)])
        long = cast("Long", edit.long_prompts)
        encoded = [self._chunks(text, long, edit.weighting) for text in texts]
        rows = max(len(chunks.ids) for chunks in encoded)
        parts = [self._weighted(chunks, rows, skip) for chunks, skip in zip(encoded, skips, strict=True)]
        return torch.cat(parts)

    def _plain(self, text: str, clip_skip: int | None) -> Tensor:
        encoded = encode_texts(self.tokenizer, self.text_encoder, [text], clip_skip=clip_skip)
        self.truncated += filter(None, encoded.truncated)
        return encoded.embeds_BTC

    def _chunks(self, text: str, long: Long, weighting: bool) -> WeightedChunks:
        chunks = encode_weighted(self.tokenizer, text if weighting else _literal(text), long)
        self.truncated += [chunks.truncated] if chunks.truncated else []
        return chunks

    def _weighted(self, chunks: WeightedChunks, rows: int, clip_skip: int | None) -> Tensor:
        """The chunks' embeddings in one row, filled up with empty ones to `rows` chunks."""
        empty = [self.tokenizer.row([])] * (rows - len(chunks.ids))
        ones = [[1.0] * self.tokenizer.model_max_length] * len(empty)
        embeds_RTC = encode_ids(self.text_encoder, [*chunks.ids, *empty], clip_skip)
        weights_RT = torch.tensor([*chunks.weights, *ones], device=embeds_RTC.device)
        return apply_weights(embeds_RTC, weights_RT).flatten(0, 1).unsqueeze(0)


def _text_at(plan: Sequence[tuple[int, str]], until: int) -> str:
    return next(text for end, text in plan if end >= until)


def _literal(text: str) -> str:
    """The text with every mark of the grammar escaped."""
    return "".join("\\" + letter if letter in "()[]\\" else letter for letter in text)
