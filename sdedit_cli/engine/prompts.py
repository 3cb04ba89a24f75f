"""Prompts as text embeddings; those of an edit with weights, long prompts, and prompts that change on the way.

B prompts (of an edit: negative first, where there is one), R rows of the text encoder, T tokens, C channels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

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
    encoded = [tokenizer.encode(text, length) for text in texts]
    embeds_BTC = family.encode_ids(components, [item.ids for item in encoded], clip_skip)
    return Encoded(embeds_BTC, tuple(item.truncated for item in encoded))


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


@dataclass(frozen=True)
class Asked:
    """Texts that are encoded together, the positive prompt last, and how. Equal ones have the same embeddings."""

    texts: tuple[str, ...]
    weighting: bool
    long_prompts: str
    clip_skip: int | None


@dataclass(frozen=True)
class Read:
    """Embeddings (B, T, C) of texts, and what of these did not fit into the `limit` tokens of a row."""

    embeds_BTC: Tensor
    truncated: tuple[str, ...]
    limit: int


class Kept(Protocol):
    """Where readings outlast a run. The facts say what was read, by what, and all that the last bits depend on."""

    def get(self, facts: Mapping[str, Any]) -> Read | None: ...
    def put(self, facts: Mapping[str, Any], read: Read) -> None: ...


def asked(edit: Edit, guided: bool) -> list[tuple[int, Asked]]:
    """What the steps of `edit` read, in order, each until a step; one entry unless a prompt is scheduled.

    Tags of the prompt are no words; in the negative one they are, as in web UIs.
    """
    steps = edit.steps_run()
    prompt, _ = split_tags(edit.prompt)
    texts = [edit.negative_prompt, prompt] if guided else [prompt]
    plans = [segments(text, steps) if edit.weighting else [(steps, text)] for text in texts]
    bounds = sorted({until for plan in plans for until, _ in plan})
    return [
        (
            until,
            Asked(tuple(_text_at(plan, until) for plan in plans), edit.weighting, edit.long_prompts, edit.clip_skip),
        )
        for until in bounds
    ]


class PromptEncoder:
    """Prompts through one tokenizer and text encoder."""

    def __init__(self, family: Family, components: TextSide, tokenizer: Tokenizer) -> None:
        self.family = family
        self.components = components
        self.tokenizer = tokenizer

    def encode(self, edit: Edit, guided: bool) -> Read:
        """What all steps of `edit` read, whose prompts are not scheduled."""
        ((_, texts),) = asked(edit, guided)
        return self.read(texts)

    def read(self, asked: Asked) -> Read:
        """One row a text: `clip_skip` is for the last, positive one alone, as in the reference."""
        texts = asked.texts
        skips = [*[None] * (len(texts) - 1), asked.clip_skip]
        if not asked.weighting and asked.long_prompts == "truncate":
            plain = [
                encode_texts(self.family, self.components, [text], clip_skip=skip)
                for text, skip in zip(texts, skips, strict=True)
            ]
            return self._read([one.embeds_BTC for one in plain], [cut for one in plain for cut in one.truncated])
        long = cast("Long", asked.long_prompts)
        encoded = [encode_weighted(self.tokenizer, text if asked.weighting else _literal(text), long) for text in texts]
        rows = max(len(chunks.ids) for chunks in encoded)
        parts = [self._weighted(chunks, rows, skip) for chunks, skip in zip(encoded, skips, strict=True)]
        return self._read(parts, [chunks.truncated for chunks in encoded])

    def _read(self, rows: Sequence[Tensor], truncated: Sequence[str]) -> Read:
        return Read(torch.cat(list(rows)), tuple(filter(None, truncated)), self.tokenizer.model_max_length)

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
