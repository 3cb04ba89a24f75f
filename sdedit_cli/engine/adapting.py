"""The adapters of edits on one loaded model, exchanged for each other's without loading it again.

What a picture is made with is as if the model had been loaded for it alone: weights are made anew of their base, words
of the tokenizer that the checkpoint has.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from PIL import Image

from ..configs.clip import CLIPTextConfig
from ..nn import ImageSource
from ..options import Edit
from .components import Components, TextEncoding
from .events import OnEvent, ignored

if TYPE_CHECKING:
    from ..adapters.embedding import TextualInversion
    from ..weights import Checkpoint
    from .ip_files import LastEncoder
    from .merging import Merging


class Adapting:
    """`bare` components of a checkpoint, and the adapters at work on them: none at first.

    Where the components have no text encoder and `read` is given, that loads it later: until then nothing is changed
    of it, and what files have for it is checked alone.
    """

    def __init__(
        self, components: Components, checkpoint: Checkpoint, read: Callable[[], TextEncoding] | None = None
    ) -> None:
        self.bare = components
        self._checkpoint = checkpoint
        self._read = read
        self._edit = Edit()
        self._merging: Merging | None = None
        self._worded = False
        self._encoder: LastEncoder | None = None

    def exchange(
        self, edit: Edit, pictures: Sequence[Image.Image], tell: OnEvent
    ) -> tuple[Components, tuple[ImageSource, ...]]:
        """The components with the adapters of `edit` and no others, and what its image prompts say; each is told.

        `pictures` are those of its image prompts, in their order. Raises ModelError and UsageError for what cannot be
        had; then some may be at work, until `clear`.
        """
        self._edit = edit
        self._take_words_back()
        bundled = self._merge(edit, tell)
        components = self._with_words(edit, bundled, tell)
        return components, self._images(edit, pictures, tell)

    @property
    def unread(self) -> CLIPTextConfig | None:
        """The config of the text encoder, where it is to be loaded later."""
        if self._read is None or self.bare.text_encoder is not None:
            return None
        component = self._checkpoint.components.get("text_encoder")
        return component.text if component else None

    def read_text(self) -> None:
        """Loads the text encoder and the tokenizer, as the checkpoint has them. Raises ModelError."""
        assert self._read is not None, "there is something to read"
        side = self._read()
        self.bare = replace(self.bare, text_encoder=side.text_encoder, tokenizer=side.tokenizer)
        if self._merging is not None:
            self._merging.exchange({"unet": self.bare.unet, "text_encoder": side.text_encoder})

    def with_text(self) -> Components:
        """The components with the adapters of the last edit, once the text encoder is loaded; those of the UNet are at
        work.

        Raises ModelError and UsageError for what cannot be had.
        """
        return self._with_words(self._edit, self._merge(self._edit, ignored), ignored)  # what has been told before

    def clear(self) -> None:
        """Has no adapter at work: the weights are their base, bit for bit."""
        self._take_words_back()
        if self._merging is not None:
            self._merging.apply({})

    def _merge(self, edit: Edit, tell: OnEvent) -> list[TextualInversion]:
        """Makes the weights those of the edit's LoRAs; the words that came with them."""
        if not edit.lora:
            self.clear()
            return []
        from .merging import Merging, merge_files

        if self._merging is None:
            text = {} if self.bare.text_encoder is None else {"text_encoder": self.bare.text_encoder}
            self._merging = Merging({"unet": self.bare.unet, **text})
        bundled: list[TextualInversion] = []
        for adapter in merge_files(
            edit.lora, self._merging, self.bare.unet.config, partial=edit.partial, unread=self.unread
        ):
            tell("adapter", adapter.facts())
            bundled += adapter.words
        return bundled

    def _with_words(self, edit: Edit, bundled: Sequence[TextualInversion], tell: OnEvent) -> Components:
        if not edit.embedding and not bundled:
            return self.bare
        from .embeddings import told, with_words, words_of

        if unread := self.unread:
            for word in words_of(edit.embedding, bundled, unread.hidden_size):
                tell("adapter", {"summary": told(word)})
            return self.bare
        self._worded = True
        tokenizer = with_words(self.bare, edit.embedding, bundled, lambda word: tell("adapter", {"summary": word}))
        return replace(self.bare, tokenizer=tokenizer)

    def _take_words_back(self) -> None:
        """Before weights change: a table of embeddings has as many rows as its base then."""
        if self._worded and self.bare.tokenizer is not None and self.bare.text_encoder is not None:
            from .embeddings import set_words

            set_words(self.bare.tokenizer, self.bare.text_encoder, ())
            self._worded = False

    def _images(self, edit: Edit, pictures: Sequence[Image.Image], tell: OnEvent) -> tuple[ImageSource, ...]:
        if not edit.ip_adapter:
            self._encoder = None  # it is large
            return ()
        from .ip_files import LastEncoder, sources_for_edit

        self._encoder = self._encoder or LastEncoder()
        return sources_for_edit(
            edit,
            self._checkpoint,
            self.bare.unet,
            pictures,
            lambda words: tell("adapter", {"summary": words}),
            self._encoder,
        )
