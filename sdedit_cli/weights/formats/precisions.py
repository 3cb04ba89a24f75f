"""The words that people use for number formats."""

from __future__ import annotations

import torch

PRECISIONS = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}
_WORDS = {dtype: word for word, dtype in PRECISIONS.items()}


def dtype_word(dtype: torch.dtype) -> str:
    """A number format in the word that people use."""
    return _WORDS.get(dtype, str(dtype).removeprefix("torch."))
