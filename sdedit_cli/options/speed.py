"""The options that save time: how files are read and what is kept of them, and pictures near the exact ones."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..errors import UsageError
from .declared import declare
from .masks import MaskOptions
from .values import ValueType, written

_NUMBER = r"([01](?:\.[0-9]{0,12})?|\.[0-9]{1,12})"
_PATTERN = rf"{_NUMBER}\.\.{_NUMBER}"


def interval_of(text: str) -> tuple[float, float]:
    """The ends of an interval that was read."""
    match = re.fullmatch(_PATTERN, text, re.ASCII)
    assert match is not None
    return float(match[1]), float(match[2])


def _parse(text: str) -> str:
    match = re.fullmatch(_PATTERN, text.strip(), re.ASCII)
    first, last = (float(match[1]), float(match[2])) if match else (1.0, 0.0)
    if not 0 <= first < last <= 1:
        raise ValueError
    return f"{first:.12g}..{last:.12g}"


INTERVAL = ValueType(
    "interval",
    "two shares of the schedule from 0 to 1, the smaller first, such as 0..0.6",
    "intervals",
    "FROM..TO",
    {"type": "string", "pattern": f"^{_PATTERN}$"},
    _parse,
    written(_parse),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeedOptions(MaskOptions):
    """Part of `Edit`, above those of masks, as slots have one line of ancestors."""

    cache: bool = declare(
        True,
        "Keep what the text encoder makes of prompts, so that it is not loaded for one that comes again.",
        "Machine",
        pixels=False,
    )
    mmap: bool = declare(
        True,
        "Map weights from their files; --no-mmap reads them into memory first, for storage that comes and goes.",
        "Machine",
        pixels=False,
    )
    compile: bool = declare(
        False,
        "Compile the blocks of the UNet with torch.compile before the first step: minutes once for each size, which"
        " only long batches repay. Pictures are equal to rounding.",
        "Machine",
    )
    cfg_interval: str | None = declare(
        None,
        "Guide by --cfg-scale only within this part of the schedule, from 0 (noise) to 1 (the picture): other steps"
        " take half the time.",
        "Speed",
        kind=INTERVAL,
        metavar="FROM..TO",
        blank="all steps",
    )
    cache_features: int | None = declare(
        None,
        "Compute the deep layers of the UNet once in so many steps, and take what they said for those between.",
        "Speed",
        low=2,
        high=10,
        metavar="N",
        blank="at each step",
    )
    merge_tokens: float | None = declare(
        None,
        "Let attention see this share of the picture's places as one with others that are like them.",
        "Speed",
        low=0.0,
        high=0.7,
        above=True,
        blank="each place by itself",
    )
    tiny_vae: str | None = declare(
        None,
        "A tiny autoencoder that makes the picture at the end, in place of the model's: a folder or file.",
        "Speed",
        metavar="PATH",
        path=True,
        blank="the model's own",
    )

    def check_speed(self, tile: str | None) -> None:
        """Raises UsageError for options that do not go together."""
        if self.cache_features is not None and tile is not None:
            raise UsageError("cache-features and tile exclude each other: tiles move from step to step")
