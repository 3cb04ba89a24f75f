"""Textual inversion (arXiv 2208.01618): the vectors of new words, from every layout that files of them have."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import ModelError, listed, shown
from ..weights.formats.source import WeightSource
from .embedding_files import MOST_VECTORS, NAMELESS, SUFFIXES, find_embedding, is_bookkeeping, of_dict, open_embedding
from .embedding_files import TextualInversion as TextualInversion
from .recognise import taken_for

_LONGEST_NAME = 256


def read_embedding(
    source: Path | str | Mapping[str, Any], width: int | None, *, token: str | None = None
) -> TextualInversion:
    """The embedding in a file, a folder or a state dict, for a text encoder of this width (of any, for None).

    The word is `token`, else what the file says, else the name of the file. Raises ModelError for what is no
    embedding, is one of another width or family, or holds several words.
    """
    if isinstance(source, Mapping):
        path = Path("the state dict")
        opened = of_dict(source, path)
    else:
        path = find_embedding(Path(source))
        opened = open_embedding(path)
    name, vectors = _vectors(opened)
    stem = path.stem if path.suffix.lower() in SUFFIXES else path.name
    word = token or name or ("" if isinstance(source, Mapping) else stem)
    if not word:
        raise ModelError(f"{path}: says no word for its vectors; give it one with `token`")
    vectors_NC = vectors.detach().reshape(-1, vectors.shape[-1] or 1) if vectors.ndim else vectors.reshape(1, 1)
    if width is not None and vectors_NC.shape[1] != width:
        raise ModelError(
            f"{path}: its vectors have {vectors_NC.shape[1]} numbers, and this model's text encoder takes {width}; "
            "it is made for another family (768: Stable Diffusion 1.x, 1024: 2.x)"
        )
    if not 0 < len(vectors_NC) <= MOST_VECTORS or not bool(torch.isfinite(vectors_NC.float()).all()):
        raise ModelError(f"{path}: holds no usable vectors ({len(vectors_NC)}, or numbers that are not finite)")
    return TextualInversion(word, vectors_NC.clone(), path)  # what a caller does with its own changes no word


def _vectors(source: WeightSource) -> tuple[str, Tensor]:
    """The word that a file says ('' for none) and its vectors. Raises ModelError for several, or for none."""
    names = [name for name in source.names() if not is_bookkeeping(name)]
    if "clip_g" in names:
        raise ModelError(f"{source.path}: is an embedding for Stable Diffusion XL; give one for 1.x or 2.x")
    if "emp_params_out" in names:
        raise ModelError(f"{source.path}: has vectors that are added after the text encoder, which are not read")
    if len(names) != 1:
        found = listed(names, 3) or "nothing"
        what = taken_for(source, "embedding") or f"holds {len(names)} entries where an embedding has one ({found})"
        raise ModelError(f"{source.path}: {what}")
    (name,) = names
    vectors = source.get(name)
    if vectors.ndim > 2 or not vectors.is_floating_point():
        what = taken_for(source, "embedding") or f"'{shown(name)}' is no embedding: its shape is {list(vectors.shape)}"
        raise ModelError(f"{source.path}: {what}")
    inner = source.extras.get("name")
    named = inner if isinstance(inner, str) and inner.isprintable() and len(inner) <= _LONGEST_NAME else ""
    return (named if name in NAMELESS or name.startswith("string_to_param.") else name), vectors
