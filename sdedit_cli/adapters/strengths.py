"""How strongly an adapter works on each of its modules: one kind of data, made of numbers by part or by block."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from numbers import Real
from typing import Any, TypeAlias, cast

from ..configs.unet import UNetConfig
from ..errors import ModelError, UsageError
from ..names.unet import unet_table
from .dialects import Module

Strengths: TypeAlias = Mapping[Module, float]
"""A number for each module; one that has none counts fully (1.0)."""

Weight: TypeAlias = float | Mapping[str, Any]
"""A number, or numbers by part: {"unet": ..., "text_encoder": ...} with {"down": ..., "mid": ..., "up": ...} inside."""

_PLACE = re.compile(r"(?:(down|up)_blocks\.(\d+)|(mid)_block)\.(?:attentions|resnets|\w+)\.(\d+)")
_ORIGINAL = re.compile(r"(input_blocks|middle_block|output_blocks)\.(\d+)")
_FIRST = {"input_blocks": 1, "output_blocks": 14}
_MIDDLE = 13
_MOST_BLOCKS = 12
"""Of input, and of output: what there are numbers for."""


def by_part(weight: Weight, modules: Iterable[Module], config: UNetConfig) -> Strengths:
    """What a weight of the reference's `set_adapters` means for these modules: parts that are not named count fully.

    Raises UsageError for what is no weight, and for blocks and layers that a UNet of this config does not have.
    """
    _check(weight, config)
    return {module: _of_part(weight, module) for module in modules}


def by_block(
    numbers: Sequence[float], unet: float, text_encoder: float, modules: Iterable[Module], config: UNetConfig
) -> Strengths:
    """Strengths of UNet and text encoder, times the 26 numbers BASE (of the text encoder), IN00..11, M00, OUT00..11.

    A module's block is that of its original name; those outside of these blocks have the UNet's strength.
    """
    blocks = {ours: _block_of(pair.foreign) for pair in unet_table(config) for ours in pair.ours}

    def strength(module: Module) -> float:
        slot, name = module
        if slot != "unet":
            return text_encoder * numbers[0]
        block = blocks.get(name)
        return unet if block is None else unet * numbers[block]

    return {module: strength(module) for module in modules}


def check_blocks(config: UNetConfig, label: str) -> None:
    """Raises ModelError, beginning with `label`, for a UNet with blocks that none of the 26 numbers is for."""
    downs, ups = config.down_levels(), config.up_levels()
    # The convolution before all levels is a block, and so is each that makes the picture smaller between two of them.
    inputs, outputs = sum(level.layers for level in downs) + len(downs), sum(level.layers for level in ups)
    if max(inputs, outputs) > _MOST_BLOCKS:
        raise ModelError(
            f"{label}: block weights (lbw=) are for UNets of at most {_MOST_BLOCKS} input and {_MOST_BLOCKS} output "
            f"blocks, and this one has {inputs} and {outputs}; leave them out"
        )


def _block_of(foreign: str) -> int | None:
    found = _ORIGINAL.match(foreign)
    if found is None:
        return None
    if found[1] == "middle_block":
        return _MIDDLE
    number = int(found[2])
    return _FIRST[found[1]] + number if number < _MOST_BLOCKS else None


def _of_part(weight: Weight, module: Module) -> float:
    slot, name = module
    chosen: Any = weight.get(slot, 1.0) if isinstance(weight, Mapping) else weight
    if isinstance(chosen, Mapping):
        chosen = _in_block(cast("Mapping[str, Any]", chosen), name)
    return 1.0 if chosen is None else float(chosen)


def _in_block(parts: Mapping[str, Any], name: str) -> Any:
    found = _PLACE.match(name)
    if found is None:
        return 1.0
    part, block, layer = found[1] or found[3], found[2], int(found[4])
    chosen = parts.get(part, 1.0)
    if isinstance(chosen, Mapping):
        chosen = cast("Mapping[str, Any]", chosen).get(f"block_{block}", 1.0)
    if isinstance(chosen, (list, tuple)):
        numbers = list(cast("list[Any]", chosen))
        return numbers[layer] if layer < len(numbers) else numbers[-1]
    return chosen


def _check(weight: object, config: UNetConfig) -> None:
    """Raises UsageError for a weight that has no meaning for a model of this config."""
    if not isinstance(weight, Mapping):
        _check_number(weight, "numbers by part")
        return
    for slot, value in _entries(cast("Mapping[str, Any]", weight), ("unet", "text_encoder"), ""):
        if slot == "text_encoder" or not isinstance(value, Mapping):
            _check_number(value, "numbers by block" if slot == "unet" else "")
            continue
        layers = {
            "down": [level.layers for level in config.down_levels()],
            "mid": [config.mid_level().layers],
            "up": [level.layers for level in config.up_levels()],
        }
        for part, of_part in _entries(cast("Mapping[str, Any]", value), tuple(layers), " of the UNet"):
            blocks = {f"block_{number}": count for number, count in enumerate(layers[part])}
            if part == "mid" or not isinstance(of_part, Mapping):
                of_part = dict.fromkeys(blocks, of_part)
            for block, numbers in _entries(cast("Mapping[str, Any]", of_part), tuple(blocks), f" of {part}"):
                _check_layers(numbers, blocks[block], f"{part} {block}")


def _entries(given: Mapping[str, Any], known: tuple[str, ...], where: str) -> Iterable[tuple[str, Any]]:
    for key in given:
        if key not in known:
            raise UsageError(f"adapter weights{where} are given for {key!r}; expected {', '.join(known)}")
    return given.items()


def _check_layers(numbers: object, count: int, where: str) -> None:
    """One number, for all layers, or one each."""
    listed = one_or_more(numbers)
    if len(listed) not in (1, count):
        raise UsageError(f"adapter weights of {where} are {len(listed)}; expected {count}, one a layer, or one")
    for number in listed:
        _check_number(number, "one a layer")


def _check_number(value: object, other: str) -> None:
    if value is not None and not is_strength(value):
        raise UsageError(f"adapter weight is {value!r}; expected a finite number" + (f", or {other}" if other else ""))


def is_strength(value: object) -> bool:
    """Whether a value is a finite number; those out of arrays are, truth values are not."""
    return not isinstance(value, bool) and isinstance(value, Real) and math.isfinite(value)


def one_or_more(value: Any) -> list[Any]:
    """The values of a list, or the one that is none."""
    return list(cast("Sequence[Any]", value)) if isinstance(value, (list, tuple)) else [value]
