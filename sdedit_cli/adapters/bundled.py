"""Embeddings that come inside a LoRA's file: `bundle_emb.NAME.` and what an embedding of its own would be called."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch

from ..errors import ModelError, shown
from ..weights.formats.safetensors import is_text
from ..weights.formats.source import WeightSource
from .embedding_files import MOST_VECTORS, TextualInversion

PREFIX = "bundle_emb."
_MIDDLE = ".string_to_param."
_LARGE = "clip_g"


def read_bundled(source: WeightSource, width: int | None) -> tuple[tuple[TextualInversion, ...], tuple[str, ...]]:
    """The words in a file for a text encoder of this width, and what is not used of them, each with its reason.

    Raises ModelError for vectors that are damaged, and for two of one word.
    """
    words: dict[str, TextualInversion] = {}
    left: list[str] = []
    found = _by_name(source.names())
    for name, keys in found.items():
        problem = _problem(source, name, keys, width)
        if problem:
            left.append(f"the bundled word '{shown(name)}' is not used: {problem}")
            continue
        ((key, _),) = keys
        vectors = source.get(key).detach().float()
        vectors_NC = vectors.reshape(-1, vectors.shape[-1])
        if not 0 < len(vectors_NC) <= MOST_VECTORS or not bool(torch.isfinite(vectors_NC).all()):
            raise ModelError(f"{source.path}: '{shown(key)}' holds no usable vectors; download the file again")
        words[name] = TextualInversion(name, vectors_NC, source.path)
    return tuple(words.values()), tuple(left)


def bundled_names(keys: Collection[str]) -> list[str]:
    """The bundled words among the keys of a file."""
    return list(_by_name(keys))


def _by_name(keys: Collection[str]) -> dict[str, list[tuple[str, str]]]:
    """The keys of each bundled word, with what they are called in it. A name may have dots."""
    found: dict[str, list[tuple[str, str]]] = {}
    for key in keys:
        if not key.startswith(PREFIX):
            continue
        inner = key.removeprefix(PREFIX)
        name, middle, leaf = inner.partition(_MIDDLE)
        if not middle:
            name, _, leaf = inner.rpartition(".")
        if name and leaf:
            found.setdefault(name, []).append((key, leaf))
    return found


def _problem(source: WeightSource, name: str, keys: Sequence[tuple[str, str]], width: int | None) -> str:
    if not name.strip() or not is_text(name):
        return "it has no letters"
    if width is None:
        return "this model has no text encoder"
    if any(leaf == _LARGE for _, leaf in keys):
        return "it is for Stable Diffusion XL"
    if len(keys) != 1:
        return f"it has {len(keys)} entries where an embedding has one"
    ((key, _),) = keys
    shape = source.shape(key)
    if not 1 <= len(shape) <= 2 or not source.dtype(key).is_floating_point:
        return f"its shape is {list(shape)}"
    return "" if shape[-1] == width else f"its vectors have {shape[-1]} numbers, and this text encoder takes {width}"
