"""What the engine's events say, in the words of every command that hears them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import shortened

_MOST_LEFT_OUT = 400  # characters of a prompt that a message may have


def cut_off(facts: Mapping[str, Any]) -> str:
    """What a prompt that is too long loses, of the event `truncated`."""
    text = shortened(facts["text"], _MOST_LEFT_OUT)
    return f"over the model's {facts['limit']} tokens; left out is '{text}'"


def passed_over(keys: Sequence[str]) -> str:
    """Which keys of an adapter are not used, of the event `adapter`."""
    return f"{len(keys)} keys fit nowhere and are passed over ({keys[0]}, ...)"
