"""Textual inversion of a pipeline: new words for the prompt, with the reference's methods and their meanings."""

from __future__ import annotations

import os
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast

from torch import Tensor

from ..adapters.embedding import TextualInversion, read_embedding
from ..engine.embeddings import (
    check_rows,
    check_widths,
    check_words,
    kept_on_failure,
    set_words,
    table_of,
    without_doubles,
    words_saved,
)
from ..errors import UsageError, WrongTypeError, did_you_mean
from ..nn import CLIPTextModel
from ..text import Tokenizer
from .keywords import one_file_options, resolved
from .words import arguments_named

Source = str | os.PathLike[str] | Mapping[str, Tensor] | Tensor


class Embeddings:
    """What `StableDiffusionImg2ImgPipeline` has learned of words."""

    tokenizer: Tokenizer | None
    text_encoder: CLIPTextModel | None

    def __init__(self) -> None:
        super().__init__()
        self._words: list[TextualInversion] = []
        self._bundled: list[TextualInversion] = []
        self._wordless: Tokenizer | None = None
        self._grown: tuple[Tokenizer | None, Tensor | None] = (None, None)
        """The tokenizer and the table of embeddings that have the words."""

    @arguments_named()
    def load_textual_inversion(
        self,
        pretrained_model_name_or_path: Source | Sequence[Source],
        token: str | Sequence[str | None] | None = None,
        tokenizer: Tokenizer | None = None,
        text_encoder: CLIPTextModel | None = None,
        *,
        weight_name: str | None = None,
        **options: Any,
    ) -> None:
        """Loads embeddings: a file, a folder, a Hub id, a dict of tensors, vectors, or a list of these, each under a
        `token`.

        A word of N vectors takes N places in the prompt. Options are those of `weights.resolve`. Raises ModelError for
        what is none or has another width, UsageError for a word that is known already; nothing is changed then.
        """
        where = one_file_options(options)
        source = pretrained_model_name_or_path
        self._check_own(tokenizer, text_encoder)
        known, encoder = check_words(self.tokenizer, self.text_encoder)
        self._keep_words()
        sources = list(source) if isinstance(source, (list, tuple)) else [cast("Source", source)]
        tokens = list(token) if isinstance(token, (list, tuple)) else [token] * len(sources)
        if not all(isinstance(one, (str, type(None))) for one in tokens):
            raise WrongTypeError(f"token is {token!r}; expected a text, or one for each embedding")
        if len(tokens) != len(sources) or len(set(tokens) - {None}) < len([one for one in tokens if one]):
            raise UsageError(f"token has {tokens!r} for {len(sources)} embeddings; give one for each, all different")
        found = [
            read_embedding(resolved(_by_token(one, word), weight_name, where), encoder.config.hidden_size, token=word)
            for one, word in zip(sources, cast("list[str | None]", tokens), strict=True)
        ]
        self._learn(known, encoder, [*self._words, *found], self._bundled)

    def unload_textual_inversion(
        self,
        tokens: str | Sequence[str] | None = None,
        tokenizer: Tokenizer | None = None,
        text_encoder: CLIPTextModel | None = None,
    ) -> None:
        """Forgets these words, or all, those that the model was saved with too; without them the encoder is as it was,
        bit for bit. UsageError for others."""
        self._check_own(tokenizer, text_encoder)
        self._keep_words()
        names = [tokens] if isinstance(tokens, str) else list(tokens or [word.token for word in self._words])
        loaded = [word.token for word in self._words]
        for name in names:
            if name not in loaded:
                raise UsageError(f"no embedding is called '{name}'{did_you_mean(name, loaded)}")
        if names:
            known, encoder = check_words(self.tokenizer, self.text_encoder)
            left = [word for word in self._words if word.token not in names]
            self._learn(known, encoder, left, self._bundled)

    def _check_own(self, tokenizer: Tokenizer | None, text_encoder: CLIPTextModel | None) -> None:
        pairs = ((tokenizer, self.tokenizer), (text_encoder, self.text_encoder))
        if any(given is not None and given is not own for given, own in pairs):
            raise UsageError("`tokenizer` and `text_encoder` are the pipeline's own; set them on it before")

    def _bundle(self, words: Sequence[TextualInversion]) -> None:
        """Has, of the words that come with LoRAs, exactly these. Raises UsageError for one that is known otherwise."""
        if words or self._bundled:
            self._keep_words()
            known, encoder = check_words(self.tokenizer, self.text_encoder)
            self._learn(known, encoder, self._words, words)

    @contextmanager
    def _bundled_aside(self) -> Generator[None, None, None]:
        """Within it the words that came with LoRAs are not known."""
        bundled = self._bundled
        if not bundled or self.tokenizer is None or self.text_encoder is None:
            yield
            return
        try:
            self._bundle(())
            yield
        finally:
            self._bundle(bundled)

    def _learn(
        self,
        known: Tokenizer,
        encoder: CLIPTextModel,
        words: Sequence[TextualInversion],
        bundled: Sequence[TextualInversion],
    ) -> None:
        wordless = self._wordless or known
        before = (self.tokenizer, self._words, self._bundled, self._wordless)
        try:
            with kept_on_failure(encoder):
                self.tokenizer = set_words(wordless, encoder, words, without_doubles(bundled))
                self._words, self._bundled = list(words), list(bundled)
                self._wordless = wordless if words or bundled else None
                self._grown = (self.tokenizer, table_of(encoder))
        except BaseException:
            self.tokenizer, self._words, self._bundled, self._wordless = before
            raise

    @contextmanager
    def _words_aside(self) -> Generator[None, None, None]:
        """Within it the encoder has the embeddings of its checkpoint alone, which adapters may change."""
        self._keep_words()
        if self._wordless is None:
            yield
            return
        wordless, (_, encoder) = self._wordless, check_words(self.tokenizer, self.text_encoder)
        try:
            set_words(wordless, encoder, ())
            yield
        finally:
            set_words(wordless, encoder, self._words, without_doubles(self._bundled))
            self._grown = (self.tokenizer, table_of(encoder))

    def _keep_words(self) -> None:
        """Gives the words to a tokenizer or text encoder that took the place of the one that had them, or whose words
        another pipeline has changed; those that a tokenizer was saved with count as loaded.

        Raises UsageError where they do not fit.
        """
        if self.tokenizer is None or self.text_encoder is None:
            return
        if self._wordless is None and self.tokenizer is not self._grown[0]:
            wordless, words = words_saved(self.tokenizer, self.text_encoder)
            self._wordless, self._words = (wordless, words) if words else (None, [])
            self._grown = (self.tokenizer, table_of(self.text_encoder))
        tokenizer, table = self._grown
        if self._wordless is not None and not (tokenizer is self.tokenizer and table is table_of(self.text_encoder)):
            words = self._words
            if tokenizer is not self.tokenizer:  # what a new one knows, its text encoder has
                self._wordless, own = words_saved(self.tokenizer, self.text_encoder)
                words = [*own, *(word for word in words if self.tokenizer.id_of(word.token) is None)]
            check_widths([*words, *self._bundled], self.text_encoder)
            self._learn(self.tokenizer, self.text_encoder, words, self._bundled)
        check_rows(self.tokenizer, self.text_encoder)


def _by_token(source: Source, token: str | None) -> Source:
    """The source, bare vectors as a dict. Raises UsageError for those without a token."""
    if not isinstance(source, Tensor):
        return source
    if not token:
        raise UsageError("give `token`, the word that these vectors stand for: a tensor says none")
    return {token: source}
