"""Refusals shared by the config classes: each says the file, the key, its value, and what would be right."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NoReturn, cast

from ..errors import ModelError, did_you_mean, quoted

LARGEST = 1 << 16
"""Nothing real comes near this many channels, tokens or layers: a larger number is a broken or hostile file."""

MOST_BLOCKS = 2048
"""Resnets and transformer blocks of a network together: SDXL's UNet has 87. More take long to build, even without
weights, and a config of any network is as short as one of a real one."""


def refuse(source: str, key: str, value: object, expected: str) -> NoReturn:
    """Raises the ModelError of a key whose value this program cannot build."""
    raise ModelError(f"{source}: '{key}' is {quoted(value)}, expected {expected}")


def one_of(source: str, key: str, value: object, known: Sequence[Any]) -> None:
    """Raises ModelError, with the nearest known word, when `value` is not among `known`."""
    if value in known:
        return
    words = [word for word in known if isinstance(word, str)]
    hint = did_you_mean(value, words) if isinstance(value, str) else ""
    refuse(source, key, value, f"one of {', '.join(map(repr, known))}{hint}")


def sizes(source: str, key: str, values: int | Iterable[Any], least: int = 1, largest: int = LARGEST) -> None:
    """Raises ModelError when a size, or one of a (nested) list of sizes, is outside least..largest."""
    numbers = flat(values)
    if not numbers:
        refuse(source, key, [], f"{least} to {largest}")
    for value in numbers:
        if not least <= value <= largest:
            refuse(source, key, value, f"{least} to {largest}")


def level_count(source: str, key: str, widths: Sequence[int], largest: int) -> None:
    """Raises ModelError when a network has no level, or more of them than any real one."""
    if not 1 <= len(widths) <= largest:
        refuse(source, key, list(widths), f"1 to {largest} numbers, one for each level (it has {len(widths)})")


def block_count(source: str, key: str, value: object, blocks: int) -> None:
    """Raises ModelError, naming the key that most of them come from, for a network of too many blocks."""
    if blocks > MOST_BLOCKS:
        refuse(source, key, value, f"a network of at most {MOST_BLOCKS} blocks in all (these are {blocks})")


def flat(values: int | Iterable[Any]) -> list[int]:
    """The numbers of an int or of a nested list of ints."""
    return [values] if isinstance(values, int) else [number for value in values for number in flat(value)]


def divides(source: str, groups: int, channels: int) -> None:
    """Raises ModelError when the groups of a norm do not divide its channels."""
    if channels % groups:
        refuse(source, "norm_num_groups", groups, f"a divisor of the {channels} in 'block_out_channels'")


def per_level(source: str, key: str, value: Any, levels: int) -> tuple[Any, ...]:
    """`value` for each level of the network: repeated when it is one value. Raises ModelError on another length."""
    if not isinstance(value, tuple):
        return (value,) * levels
    values = cast("tuple[Any, ...]", value)
    if len(values) != levels:
        refuse(source, key, list(values), f"one value, or one for each of the {levels} blocks")
    return values
