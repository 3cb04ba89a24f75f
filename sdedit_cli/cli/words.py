"""Words of prompts that are names of embeddings in the embedding folders, as web UIs read them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace

from ..options import Edit
from ..options.adapters import EmbeddingFile
from .folders import Folders
from .loras import without_tags

_ESCAPED = re.compile(r"\\([()\[\]\\])")


def with_words(edit: Edit, folders: Folders) -> Edit:
    """The edit with the embeddings whose names stand in its prompts. Raises ModelError where a name is two files'.

    Those that the edit has already stay as they are.
    """
    if not folders.folders:
        return edit
    known = {file.word.lower() for file in edit.embedding}
    names = folders.lower_names
    found = mentioned(f"{without_tags(edit.prompt)}\n{edit.negative_prompt}", sorted(names.keys() - known))
    files = tuple(EmbeddingFile(str(folders.find(name))) for name in found)
    return replace(edit, embedding=(*edit.embedding, *files)) if files else edit


def mentions(prompt: str, negative: str, folders: Folders) -> bool:
    """Whether a name of an embedding stands in prompts without tags."""
    return bool(folders.folders and mentioned(f"{prompt}\n{negative}", folders.lower_names))


def unused_words(edit: Edit) -> tuple[str, ...]:
    """The words of embeddings that stand in no prompt of an edit, and do nothing."""
    text = f"{without_tags(edit.prompt)}\n{edit.negative_prompt}"
    words = {file.word: file.word.lower() for file in edit.embedding}
    found = set(mentioned(text, list(words.values())))
    return tuple(word for word, low in words.items() if low not in found and low not in text.lower())


def mentioned(text: str, names: Iterable[str]) -> list[str]:
    """Those of `names` (in small letters) that stand in a text as whole words, in its order, each once.

    Where one begins with another, the longer one is meant. One letter alone is never a name.
    """
    text = _ESCAPED.sub(r"\1", text) if "\\" in text else text
    plain = " ".join(text.lower().split())
    near = sorted((name for name in names if len(name) > 1 and name in plain), key=len, reverse=True)
    if not near:
        return []
    words = "|".join(f"{_edge(name[0], '(?<!')}{re.escape(name)}{_edge(name[-1], '(?!')}" for name in near)
    return list(dict.fromkeys(match[0] for match in re.finditer(words, plain)))


def _edge(letter: str, look: str) -> str:
    """A name that ends in a letter ends a word there; one in brackets is one wherever it stands."""
    return rf"{look}\w)" if re.match(r"\w", letter) else ""
