"""Which tokenizer a model has: that of its folder, that which a single file carries, or its family's packaged one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

from ...configs.clip import CLIPTextConfig
from ...errors import ModelError
from ...text import Tokenizer
from ...text.vocabulary import EOS
from ..write.safetensors import is_text

CLIP_VOCABULARY = 49408
# A single file that we wrote carries here a tokenizer that is not its family's: names and texts of the files, as JSON.
TOKENIZER_KEY = "sdedit.tokenizer"
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
    "merges.txt",
    "special_tokens_map.json",
    "added_tokens.json",
)
# OpenCLIP, and so Stable Diffusion 2.x, was trained with prompts filled up with this token; CLIP with the end token.
_PADDING_2X = "!"


def find_tokenizer(
    path: Path,
    text: CLIPTextConfig,
    *,
    padded: bool,
    folder: Path | None = None,
    metadata: Mapping[str, str] | None = None,
) -> Tokenizer:
    """The tokenizer in `folder`, or in the metadata of the single file `path`, else the packaged one.

    `padded`: fill rows up as OpenCLIP does. Raises ModelError when the text encoder's vocabulary is another and
    nothing says which.
    """
    if folder is not None and folder.is_dir():
        own = Tokenizer.from_folder(folder, text.max_position_embeddings)
        check_fits(own, text, f"{folder}: the tokenizer there")
        return own
    if metadata and TOKENIZER_KEY in metadata:
        return _told(path, metadata[TOKENIZER_KEY], text)
    return family_tokenizer(path, text, padded)


def check_fits(tokenizer: Tokenizer, text: CLIPTextConfig, whose: str) -> None:
    """Raises ModelError when a tokenizer has ids that the text encoder has no embedding for."""
    if len(tokenizer) > text.vocab_size:
        raise ModelError(
            f"{whose} has {len(tokenizer)} tokens, but the text encoder knows {text.vocab_size}; "
            "put the model's own tokenizer there"
        )


def told_tokenizer_files(path: Path, told: str) -> dict[str, str]:
    """The tokenizer's files that a single file carries. Raises ModelError when they are no such files."""
    try:
        content: object = json.loads(told)
    except (ValueError, RecursionError):
        content = None
    files = cast("dict[str, object]", content) if isinstance(content, dict) else {}
    kept = {
        name: text
        for name, text in files.items()
        if name in TOKENIZER_FILES and isinstance(text, str) and is_text(text)
    }
    if not kept or len(kept) != len(files):
        raise ModelError(f"{path}: its metadata '{TOKENIZER_KEY}' holds no tokenizer; convert the model again")
    return kept


def _told(path: Path, told: str, text: CLIPTextConfig) -> Tokenizer:
    files = told_tokenizer_files(path, told)
    with TemporaryDirectory(prefix="sdedit-tokenizer-") as folder:
        for name, content in files.items():
            (Path(folder) / name).write_text(content, encoding="utf-8", newline="\n")
        return Tokenizer.from_folder(folder, text.max_position_embeddings)


def family_tokenizer(path: Path, text: CLIPTextConfig, padded: bool) -> Tokenizer:
    """The packaged tokenizer for this text encoder; `padded`: with OpenCLIP's padding.

    Raises ModelError when the encoder's vocabulary is smaller than CLIP's.
    """
    if text.vocab_size < CLIP_VOCABULARY:
        raise ModelError(
            f"{path}: its text encoder knows {text.vocab_size} tokens where CLIP's vocabulary has {CLIP_VOCABULARY};\n"
            "give --config FOLDER, a model folder with its tokenizer."
        )
    return packaged(text, padded)


def packaged(text: CLIPTextConfig, padded: bool) -> Tokenizer:
    """CLIP's tokenizer, for as many tokens as the encoder has positions."""
    return Tokenizer.packaged(text.max_position_embeddings, pad=_PADDING_2X if padded else EOS)


def is_of_family(own: Tokenizer, path: Path, text: CLIPTextConfig, padded: bool) -> bool:
    """Whether `own` reads all prompts as the family's packaged tokenizer does."""
    return text.vocab_size >= CLIP_VOCABULARY and own.agrees_with(family_tokenizer(path, text, padded))
