"""The parts of a model that modules are told by, for people: 'down 0', 'mid', 'layer 3'."""

from __future__ import annotations

import re

_BLOCK = re.compile(r"(down|up|input|output|double|single|joint)_(?:transformer_)?blocks[._](\d+)|(mid)(?:dle)?_block")
_LAYER = re.compile(r"layers[._](\d+)|resblocks[._](\d+)")
# The parts of a model in the order that data flows.
_ORDER = ("layer", "conv_in", "time_embedding", "input", "down", "mid", "output", "up", "conv_norm_out", "conv_out")


def block_of(name: str) -> str:
    """The part of the model that a module is in, by its name in any naming."""
    if found := _BLOCK.search(name):
        return f"{found[1]} {found[2]}" if found[1] else "mid"
    if found := _LAYER.search(name):
        return f"layer {found[1] or found[2]}"
    return name.split(".")[0] if "." in name else "other"


def place(block: str) -> tuple[int, int, str]:
    """What orders parts as data flows through them."""
    word, _, number = block.partition(" ")
    order = _ORDER.index(word) if word in _ORDER else len(_ORDER)
    return order, int(number) if number.isdecimal() else 0, block
