"""Which tokenizer a text encoder has: that of a folder, that which a file carries, or its family's packaged one."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from ...configs.base import object_in
from ...configs.clip import CLIPTextConfig
from ...errors import ModelError
from ...text import Tokenizer
from ..formats.safetensors import is_text
from . import notes

FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
    "merges.txt",
    "special_tokens_map.json",
    "added_tokens.json",
)


@dataclass(frozen=True)
class TokenizerFiles:
    """Where a tokenizer comes from: `folder`, or `carried`, the note of a single file, or neither: the packaged one.

    `model` is named in errors; `padding` fills up the packaged one's prompts; `text` is the encoder that it belongs
    to, None where the caller brings another.
    """

    model: Path
    padding: str
    text: CLIPTextConfig | None = None
    folder: Path | None = None
    carried: str | None = None

    def read(self) -> Tokenizer:
        """The tokenizer. Raises ModelError when it is broken, or has ids that the encoder has no embedding for."""
        text = self.text or CLIPTextConfig()
        if self.folder is not None:
            found = Tokenizer.from_folder(self.folder, self.text and text.max_position_embeddings)
            whose, advice = f"{self.folder}: the tokenizer there", "put the model's own tokenizer there"
        elif self.carried is not None:
            whose, advice = f"{self.model}: the tokenizer in it", "convert the model again"
            found = _of_texts(self._texts(self.carried), text.max_position_embeddings, f"{whose}, ")
        else:
            found = Tokenizer.packaged(text.max_position_embeddings, pad=self.padding)
            whose = f"{self.model}: there is no tokenizer, and CLIP's own"
            advice = "give --config FOLDER, a model folder with its tokenizer"
        if self.text and len(found) > text.vocab_size:
            raise ModelError(f"{whose} has {len(found)} tokens, but the text encoder knows {text.vocab_size}; {advice}")
        return found

    def contents(self) -> dict[str, str]:
        """Names and contents of the files of its folder; those of a folder or file as they are."""
        tokenizer = self.read()  # a broken one would make a model that nothing can run
        if self.folder is not None:
            return {name: _text_of(self.folder / name) for name in FILES if (self.folder / name).is_file()}
        return self._texts(self.carried) if self.carried is not None else tokenizer.folder_files()

    def note(self, padding: str) -> str | None:
        """What a single file, which has no place for a tokenizer, must carry; None when its reader's own, filled up
        with `padding`, does the same."""
        is_packaged = self.folder is None and self.carried is None
        if is_packaged and padding == self.padding:
            return None
        text = self.text or CLIPTextConfig()
        own = self.read()
        same = own.agrees_with(Tokenizer.packaged(text.max_position_embeddings, pad=padding))
        return None if same else json.dumps(self.contents())

    def _texts(self, carried: str) -> dict[str, str]:
        files = object_in(carried) or {}
        kept = {name: text for name, text in files.items() if name in FILES and isinstance(text, str) and is_text(text)}
        if not kept or len(kept) != len(files):
            raise ModelError(
                f"{self.model}: its metadata '{notes.TOKENIZER}' holds no tokenizer; convert the model again"
            )
        return kept


def _of_texts(texts: Mapping[str, str], positions: int, called: str) -> Tokenizer:
    """The tokenizer of these files. Raises ModelError, which has `called` before the name of a file."""
    with TemporaryDirectory(prefix="sdedit-tokenizer-") as folder:
        for name, content in texts.items():
            (Path(folder) / name).write_text(content, encoding="utf-8", newline="\n")
        try:
            return Tokenizer.from_folder(folder, positions)
        except ModelError as problem:
            raise ModelError(str(problem).replace(os.path.join(folder, ""), called)) from None


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"{path}: cannot be read as text ({error})") from None
