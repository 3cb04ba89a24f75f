"""New words of a tokenizer and a text encoder: their vectors are further rows of the table of embeddings."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import torch
from torch import nn

from ..adapters.embedding import TextualInversion, read_embedding
from ..errors import UsageError
from ..nn import CLIPTextModel
from ..options.adapters import EmbeddingFile
from ..text.tokenizer import UNHEARD, Tokenizer
from .components import TextSide

_BEYOND = "beyond_tokenizer"
"""Rows that nothing asks for: in their places are words, and they come back when the words go."""


def places_of(embedding: TextualInversion) -> list[str]:
    """The tokens of a word: itself, and one for each further vector, under the names that saved tokenizers have."""
    return [embedding.token, *(f"{embedding.token}_{n}" for n in range(1, len(embedding.vectors_NC)))]


@torch.inference_mode(False)  # what is made in that mode could be written to in it alone
@torch.no_grad()
def set_words(
    wordless: Tokenizer,
    encoder: CLIPTextModel,
    words: Sequence[TextualInversion],
    typed: Sequence[TextualInversion] = (),
) -> Tokenizer:
    """The tokenizer `wordless` with exactly these words; the encoder, whatever words it had, gets their vectors.

    Those `typed` are as in web UIs: they are found as whole words alone, and may be words of the vocabulary. Without
    any the encoder is as it was before. Raises UsageError for a word that is known; nothing is changed then.
    """
    spelled = [replace(word, token=_spelled(word.token, wordless)) for word in typed]
    grown = wordless
    for group, whole in ((words, False), (spelled, True)):
        tokens = [token for word in group for token in places_of(word)]
        grown = grown.with_added_tokens(tokens, whole_words=whole) if tokens else grown
    table = table_of(encoder)
    rows, beyond = table[: len(wordless)], _beyond(encoder)
    if beyond is None:
        beyond = table[len(wordless) :].clone()
    more = [word.vectors_NC.to(rows.device, rows.dtype) for word in (*words, *spelled)]
    _set_rows(encoder, torch.cat([rows, *(more or [beyond])]), beyond if more else None)
    return grown


def _spelled(word: str, tokenizer: Tokenizer) -> str:
    """A word of the vocabulary as one that no other entry is spelled as, and that is found as the word."""
    return UNHEARD + word if tokenizer.id_of(word) is not None else word


def _beyond(encoder: CLIPTextModel) -> torch.Tensor | None:
    """The rows that the table had beyond the tokenizer's; None where it holds no words, and has them itself."""
    return dict(encoder.text_model.embeddings.token_embedding.named_buffers()).get(_BEYOND)


def _set_beyond(encoder: CLIPTextModel, rows_VC: torch.Tensor | None) -> None:
    # A buffer goes wherever the table goes, and is not saved.
    encoder.text_model.embeddings.token_embedding.register_buffer(_BEYOND, rows_VC, persistent=False)


def _set_rows(encoder: CLIPTextModel, rows_VC: torch.Tensor, beyond_VC: torch.Tensor | None) -> None:
    table = encoder.text_model.embeddings.token_embedding
    table.weight = nn.Parameter(rows_VC, requires_grad=False)
    table.num_embeddings = len(rows_VC)
    _set_beyond(encoder, beyond_VC)
    encoder.config = replace(encoder.config, vocab_size=len(rows_VC))


def words_saved(tokenizer: Tokenizer, encoder: CLIPTextModel) -> tuple[Tokenizer, list[TextualInversion]]:
    """The words that a folder was saved with, and the tokenizer without them; the encoder counts as having them."""
    rows_VC = table_of(encoder).detach()
    if len(tokenizer) > len(rows_VC):
        return tokenizer, []
    wordless, learned = tokenizer.learned()
    found = [TextualInversion(word, rows_VC[list(ids)].clone(), Path(word)) for word, ids in learned]
    # Numbered otherwise they would have other ids when they are learned again.
    if list(range(len(wordless), len(tokenizer))) != [index for _, ids in learned for index in ids]:
        return tokenizer, []
    if found and _beyond(encoder) is None:
        _set_beyond(encoder, rows_VC[len(tokenizer) :].clone())
    return wordless, found


def table_of(encoder: CLIPTextModel) -> torch.Tensor:
    """The vectors of all tokens (V, C); another object once words come or go."""
    return encoder.text_model.embeddings.token_embedding.weight


def check_widths(words: Sequence[TextualInversion], encoder: CLIPTextModel) -> None:
    """Raises UsageError for a word whose vectors are none of this text encoder's."""
    width = table_of(encoder).shape[1]
    for word in words:
        if word.vectors_NC.shape[1] != width:
            raise UsageError(
                f"the word '{word.token}' has vectors of {word.vectors_NC.shape[1]} numbers, and this text encoder "
                f"takes {width}; unload_textual_inversion() before the text encoder is exchanged"
            )


def check_rows(tokenizer: Tokenizer, encoder: CLIPTextModel) -> None:
    """Raises UsageError where the tokenizer has words that the text encoder has no vectors for."""
    rows = len(table_of(encoder))
    if len(tokenizer) > rows:
        raise UsageError(
            f"the tokenizer knows {len(tokenizer)} tokens and the text encoder has vectors for {rows}: they are of "
            "different models, or another pipeline has unloaded its words; set both"
        )


@contextmanager
def kept_on_failure(encoder: CLIPTextModel) -> Generator[None, None, None]:
    """What fails within it leaves the encoder with the words that it had."""
    table = encoder.text_model.embeddings.token_embedding
    before, beyond = (table.weight, table.num_embeddings, encoder.config), _beyond(encoder)
    try:
        yield
    except BaseException:
        table.weight, table.num_embeddings, encoder.config = before
        _set_beyond(encoder, beyond)
        raise


def check_words(tokenizer: Tokenizer | None, encoder: CLIPTextModel | None) -> tuple[Tokenizer, CLIPTextModel]:
    """Both, where they are there. Raises UsageError otherwise."""
    if tokenizer is None or encoder is None:
        raise UsageError("a textual inversion needs a tokenizer and a text encoder, and this model lacks one")
    return tokenizer, encoder


def words_of(files: Sequence[EmbeddingFile], bundled: Sequence[TextualInversion], width: int) -> list[TextualInversion]:
    """The words of these files and those that came with LoRAs, for a text encoder of this width.

    Raises ModelError for a file that does not fit, UsageError for two of one word.
    """
    found = [read_embedding(Path(file.path), width, token=file.word) for file in files]
    words = without_doubles([*found, *bundled])
    for one, other in combinations(words, 2):
        if one.token.lower() == other.token.lower():
            raise UsageError(
                f"{one.path.name} and {other.path.name} both have the word '{one.token}'; leave one out, or give "
                "the embedding another word: --embedding PATH:WORD"
            )
    return words


def with_words(
    side: TextSide,
    files: Sequence[EmbeddingFile],
    bundled: Sequence[TextualInversion],
    tell: Callable[[str], object],
) -> Tokenizer:
    """The tokenizer with the words of these files and those that came with LoRAs, each named in `tell`.

    Raises ModelError for a file that does not fit, UsageError for two of one word.
    """
    tokenizer, encoder = check_words(side.tokenizer, side.text_encoder)
    words = words_of(files, bundled, encoder.config.hidden_size)
    grown = set_words(tokenizer, encoder, (), words)
    for word in words:
        tell(told(word))
    return grown


def told(word: TextualInversion) -> str:
    """What was loaded, for people."""
    count = len(word.vectors_NC)
    return f"{word.path.name}: the word '{word.token}' of {count} vector{'s' if count > 1 else ''}"


def without_doubles(words: Sequence[TextualInversion]) -> list[TextualInversion]:
    """The words, each once where several files bring the same one; one with other vectors stays beside it."""
    kept: list[TextualInversion] = []
    for word in words:
        same = (one for one in kept if one.token.lower() == word.token.lower())
        if not any(torch.equal(one.vectors_NC, word.vectors_NC) for one in same):
            kept.append(word)
    return kept
