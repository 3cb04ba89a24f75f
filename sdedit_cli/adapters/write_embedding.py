"""Files of embeddings, as web UIs, diffusers and kohya's scripts write them."""

from __future__ import annotations

import io
from typing import Any

import torch

from ..weights.formats.source import MemorySource
from ..weights.write.safetensors import items_of, write_safetensors
from .embedding import TextualInversion

# What web UIs write for the token that they trained: '*' of CLIP's vocabulary.
_STAR = 265


def embedding_bytes(word: TextualInversion, layout: str, *, pickled: bool) -> bytes:
    """The content of a file in a layout: 'a1111' (always pickled), 'diffusers' or 'kohya'; equal ones are equal."""
    vectors_NC = word.vectors_NC.detach().cpu().contiguous().clone()
    file = io.BytesIO()
    if layout == "a1111":
        held: dict[str, Any] = {
            "string_to_token": {"*": _STAR},
            "string_to_param": {"*": vectors_NC},
            "name": word.token,
            "step": 0,
            "sd_checkpoint": None,
            "sd_checkpoint_name": None,
        }
        torch.save(held, file)
        return file.getvalue()
    key = word.token if layout == "diffusers" else "emb_params"
    if pickled:
        torch.save({key: vectors_NC}, file)
    else:
        write_safetensors(file, items_of(MemorySource({key: vectors_NC})), {})
    return file.getvalue()
