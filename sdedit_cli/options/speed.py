"""The options that save time: of what is kept between runs, and of pictures that are nearly the exact ones."""

from __future__ import annotations

from dataclasses import dataclass

from .declared import declare
from .masks import MaskOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeedOptions(MaskOptions):
    """Part of `Edit`, above those of masks, as slots have one line of ancestors."""

    cache: bool = declare(
        True,
        "Keep what the text encoder makes of prompts, so that it is not loaded for one that comes again.",
        "Machine",
        pixels=False,
    )
