"""New words of a tokenizer and a text encoder: their vectors are further rows of the table of embeddings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from ..adapters.embedding import TextualInversion, read_embedding
from ..errors import UsageError
from ..nn import CLIPTextModel
from ..options.adapters import EmbeddingFile
from ..text import Tokenizer
from .components import Components


def places_of(embedding: TextualInversion) -> list[str]:
    """The tokens of a word: itself, and one for each further vector, under the names that saved tokenizers have."""
    return [embedding.token, *(f"{embedding.token}_{n}" for n in range(1, len(embedding.vectors_NC)))]


@torch.no_grad()
def add_words(tokenizer: Tokenizer, encoder: CLIPTextModel, embeddings: Sequence[TextualInversion]) -> Tokenizer:
    """The tokenizer that knows the words too; the encoder gets their vectors. Raises UsageError for a known word."""
    tokens = [token for embedding in embeddings for token in places_of(embedding)]
    grown = tokenizer.with_added_tokens(tokens)
    table = encoder.text_model.embeddings.token_embedding
    # Rows beyond the tokenizer's would shift the new ones, and nothing can ask for them.
    rows = table.weight[: len(tokenizer)]
    new = torch.cat([embedding.vectors_NC for embedding in embeddings]).to(rows.device, rows.dtype)
    _set_rows(encoder, torch.cat([rows, new]))
    return grown


@torch.no_grad()
def forget_words(tokenizer: Tokenizer, encoder: CLIPTextModel) -> None:
    """Gives the encoder the table back that it had with this tokenizer."""
    _set_rows(encoder, encoder.text_model.embeddings.token_embedding.weight[: len(tokenizer)].clone())


def _set_rows(encoder: CLIPTextModel, rows_VC: torch.Tensor) -> None:
    table = encoder.text_model.embeddings.token_embedding
    table.weight = nn.Parameter(rows_VC, requires_grad=False)
    table.num_embeddings = len(rows_VC)
    encoder.config = replace(encoder.config, vocab_size=len(rows_VC))


def check_words(tokenizer: Tokenizer | None, encoder: CLIPTextModel | None) -> tuple[Tokenizer, CLIPTextModel]:
    """Both, where they are there. Raises UsageError otherwise."""
    if tokenizer is None or encoder is None:
        raise UsageError("a textual inversion needs a tokenizer and a text encoder, and this model lacks one")
    return tokenizer, encoder


def with_words(components: Components, files: Sequence[EmbeddingFile], tell: Callable[[str], object]) -> Components:
    """The components of an edit with the words of these files, each named in `tell`. Raises ModelError, UsageError."""
    tokenizer, encoder = check_words(components.tokenizer, components.text_encoder)
    width = encoder.config.hidden_size
    found = [read_embedding(Path(file.path), width, token=file.token or None, by_stem=True) for file in files]
    grown = add_words(tokenizer, encoder, found)
    for word in found:
        tell(f"{word.path.name}: the word '{word.token}' of {len(word.vectors_NC)} vectors")
    return replace(components, tokenizer=grown)
