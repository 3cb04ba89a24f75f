"""Numbers by the original UNet's blocks, as the extension for block weights of web UIs has them.

26 numbers are for the text encoder (BASE) and for every block; 17 are for BASE and the blocks that a plain LoRA
changes. As there, a block that has none of the 17 gets 0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from ..errors import UsageError, did_you_mean, shown

BLOCKS = (
    "BASE",
    *(f"IN{n:02}" for n in range(12)),
    "M00",
    *(f"OUT{n:02}" for n in range(12)),
)
_UNTOUCHED = ("IN00", "IN03", "IN06", "IN09", "IN10", "IN11", "OUT00", "OUT01", "OUT02")
_OF_PLAIN_LORA = tuple(block for block in BLOCKS if block not in _UNTOUCHED)
# The presets that the extension comes with, as the blocks of the 17 that they leave at 1.
_NAMED: Mapping[str, slice] = {
    "ALL": slice(0, 17),
    "INS": slice(1, 4),
    "IND": slice(4, 7),
    "INALL": slice(1, 7),
    "MIDD": slice(4, 12),
    "OUTD": slice(8, 12),
    "OUTS": slice(12, 17),
    "OUTALL": slice(8, 17),
}
NAMES = ("NONE", *_NAMED, "ALL0.5")


def block_numbers(text: str, label: str) -> tuple[float, ...]:
    """The 26 numbers that `OUTALL` or `1,0,...` stand for. Raises UsageError, beginning with `label`, for others."""
    word = text.strip().upper()
    if word in NAMES:
        return _spread(_named(word))
    parts = [part.strip() for part in text.split(",")]
    try:
        numbers = tuple(float(part) for part in parts)
    except ValueError:
        hint = did_you_mean(word, NAMES) if len(parts) == 1 else ""
        known = ", ".join(NAMES)
        raise UsageError(
            f"{label}: '{shown(text)}' is no set of block weights{hint}; expected 17 or 26 numbers, or {known}"
        ) from None
    if len(numbers) not in (len(_OF_PLAIN_LORA), len(BLOCKS)) or not all(map(math.isfinite, numbers)):
        also = " (12 and 20 are for Stable Diffusion XL)" if len(numbers) in (12, 20) else ""
        raise UsageError(
            f"{label}: has {len(numbers)} block weights{also}; expected 17 or 26 finite ones, from BASE to OUT11"
        )
    return numbers if len(numbers) == len(BLOCKS) else _spread(numbers)


def _named(word: str) -> tuple[float, ...]:
    if word == "ALL0.5":
        return (0.5,) * len(_OF_PLAIN_LORA)
    full = _NAMED.get(word)
    ones = set(_OF_PLAIN_LORA[full]) | {"BASE"} if full else set[str]()
    return tuple(float(block in ones) for block in _OF_PLAIN_LORA)


def _spread(numbers: tuple[float, ...]) -> tuple[float, ...]:
    by_block = dict(zip(_OF_PLAIN_LORA, numbers, strict=True))
    return tuple(by_block.get(block, 0.0) for block in BLOCKS)
