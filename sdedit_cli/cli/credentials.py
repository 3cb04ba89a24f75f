"""Who signs pictures: each chain and key is opened once, before the model is loaded."""

from __future__ import annotations

from functools import cache

from ..pictures.signing import Signer


@cache
def signer(chain: str, key: str) -> Signer:
    """The signer of these files. Raises UsageError and InputError, as `Signer` does."""
    return Signer(chain, key)
