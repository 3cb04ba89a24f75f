"""Prompts as text embeddings; those of an edit with weights, long prompts, and prompts that change on the way.

B prompts (of an edit: negative first, where there is one), R rows of the text encoder, T tokens, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from ..options import Edit
from ..text import Tokenizer, WeightedChunks, apply_weights, encode_weighted, segments
from ..text.grammar import parse
from ..text.prompt_schedule import is_scheduled
from ..text.tags import split_tags
from ..text.weighting import Long
from .components import TextSide
from .families import Family


@dataclass(frozen=True)
class Encoded:
    """Text embeddings (B, T, C), and for each text the part that did not fit ('' when all did)."""

    embeds_BTC: Tensor
    truncated: tuple[str, ...]


def encode_texts(
    family: Family,
    components: TextSide,
    texts: Sequence[str],
    *,
    clip_skip: int | None = None,
    length: int | None = None,
) -> Encoded:
    """Embeddings of `texts` as they stand, padded or cut to `length` tokens (the tokenizer's own maximum by default).

    `clip_skip` takes the hidden state that many layers before the last, then the final norm.
    Raises UsageError when the encoder has fewer layers than that.
    """
    tokenizer = components.tokenizer
    assert tokenizer is not None, "callers say in their own words that there is none"
    encoded = [tokenizer.encode(text) for text in texts]
    rows = [_resize(item.ids, length, tokenizer) for item in encoded]
    return Encoded(family.encode_ids(components, rows, clip_skip), tuple(item.truncated for item in encoded))


def _resize(ids: list[int], length: int | None, tokenizer: Tokenizer) -> list[int]:
    if length is None or length == len(ids):
        return ids
    if length > len(ids):
        return ids + [tokenizer.pad_id] * (length - len(ids))
    return [*ids[: length - 1], tokenizer.eos_id]


@dataclass(frozen=True)
class TimedText:
    """The embeddings (B, T, C) that are in force until step `until`, counted from the first step run."""

    until: int
    embeds_BTC: Tensor


def changes_on_the_way(edit: Edit) -> bool:
    """Whether a prompt of the edit may be another one at another step."""
    return edit.weighting and any(
        is_scheduled(parse(split_tags(text)[0])) for text in (edit.prompt, edit.negative_prompt)
    )


class PromptEncoder:
    """The prompts of edits through one tokenizer and text encoder; `truncated` collects what did not fit."""

    def __init__(self, family: Family, components: TextSide, tokenizer: Tokenizer) -> None:
        self.family = family
        self.components = components
        self.tokenizer = tokenizer
        self.truncated: list[str] = []

    def encode(self, edit: Edit, guided: bool) -> list[TimedText]:
        """What the steps of `edit` read, in order; one entry unless a prompt is scheduled.

        Tags of the prompt are no words; in the negative one they are, as in web UIs.
        """
        steps = edit.steps_run()
        prompt, _ = split_tags(edit.prompt)
        texts = [edit.negative_prompt, prompt] if guided else [prompt]
        plans = [segments(text, steps) if edit.weighting else [(steps, text)] for text in texts]
        bounds = sorted({until for plan in plans for until, _ in plan})
        wanted = [tuple(_text_at(plan, until) for plan in plans) for until in bounds]
        # Prompts that alternate come again and again, and are encoded once.
        embeds = {texts: self._batch(edit, texts) for texts in dict.fromkeys(wanted)}
        return [TimedText(until, embeds[texts]) for until, texts in zip(bounds, wanted, strict=True)]

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
        encoded = encode_texts(self.family, self.components, [text], clip_skip=clip_skip)
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
        embeds_RTC = self.family.encode_ids(self.components, [*chunks.ids, *empty], clip_skip)
        weights_RT = torch.tensor([*chunks.weights, *ones], device=embeds_RTC.device)
        return apply_weights(embeds_RTC, weights_RT).flatten(0, 1).unsqueeze(0)


def _text_at(plan: Sequence[tuple[int, str]], until: int) -> str:
    return next(text for end, text in plan if end >= until)


def _literal(text: str) -> str:
    """The text with every mark of the grammar escaped."""
    return "".join("\\" + letter if letter in "()[]\\" else letter for letter in text)
