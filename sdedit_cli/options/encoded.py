"""Prompts that come encoded, and what says something of texts alone."""

from __future__ import annotations

from ..errors import UsageError


def check_encoded(edit: object) -> None:
    """Raises UsageError for options of the text encoder beside prompts that are encoded already."""
    for key in ("prompt", "negative_prompt", "embedding", "clip_skip"):
        if getattr(edit, key) not in (None, "", ()):
            flag = key.replace("_", "-")
            raise UsageError(
                f"{flag} and prompt-embeds exclude each other: the file has prompts that are encoded already; "
                "give it to 'sdedit embed encode' instead"
            )
