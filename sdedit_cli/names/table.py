"""Tables of names: one for both directions, between a foreign naming (LDM, OpenCLIP, Flax) and ours (diffusers).

A table lists *modules*. How the parameters of a pair of modules correspond is its rule, a key of `LEAVES`: which
leaf is which, and what has to be done to the tensor each way. The operations are names here, as this package knows
no tensors; `weights.checkpoint.renamed` holds what they do.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from typing import Literal

Side = Literal["ours", "foreign"]


@dataclass(frozen=True, slots=True)
class Pair:
    """A module in both namings. More than one of ours: the foreign module holds them stacked in one tensor."""

    foreign: str
    ours: tuple[str, ...]
    rule: str = "same"


Table = tuple[Pair, ...]


@dataclass(frozen=True, slots=True)
class Leaf:
    """A parameter of a pair: its suffix in both namings and the operation that leads to each side."""

    foreign: str
    ours: str
    to_ours: str = "same"
    to_foreign: str = "same"


_BIAS = Leaf(".bias", ".bias")

LEAVES: dict[str, tuple[Leaf, ...]] = {
    "same": (Leaf(".weight", ".weight"), _BIAS),
    # LDM's VAE attention is made of 1x1 convolutions, ours of linear layers.
    "conv1x1": (Leaf(".weight", ".weight", "squeeze", "unsqueeze"), _BIAS),
    # OpenCLIP keeps q, k and v in one in_proj_weight and one in_proj_bias.
    "stacked": (Leaf("_weight", ".weight", "part", "stack"), Leaf("_bias", ".bias", "part", "stack")),
    "bare": (Leaf("", ".weight"),),
    "transposed": (Leaf("", ".weight", "transpose", "transpose"),),
    # Flax: a kernel is (in, out) or (height, width, in, out); norms have a scale, tables an embedding. Read only.
    "flax": (
        Leaf(".kernel", ".weight", "unflax", "flax"),
        Leaf(".scale", ".weight"),
        Leaf(".embedding", ".weight"),
        _BIAS,
    ),
}


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a tensor comes from: one operation on one source, or on several that are joined.

    `part` of `parts` says which share of the source it is when the operation is 'part'.
    """

    sources: tuple[str, ...]
    operation: str = "same"
    part: int = 0
    parts: int = 1


def origins(table: Iterable[Pair], present: Collection[str], to: Side = "ours") -> dict[str, Origin]:
    """Every parameter on the side `to` whose sources are all in `present`, with its origin.

    Args:
        table: Pairs of modules.
        present: Parameter names of the other side, as they are in the file.
        to: The side whose names are wanted.
    """
    found: dict[str, Origin] = {}
    for pair in table:
        for leaf in LEAVES[pair.rule]:
            ours = tuple(name + leaf.ours for name in pair.ours)
            foreign = pair.foreign + leaf.foreign
            if to == "ours" and foreign in present:
                parts = len(ours)
                found.update((name, Origin((foreign,), leaf.to_ours, i, parts)) for i, name in enumerate(ours))
            elif to == "foreign" and all(name in present for name in ours):
                found[foreign] = Origin(ours, leaf.to_foreign, 0, len(ours))
    return found


def prefixed(table: Iterable[Pair], prefix: str) -> Table:
    """The table with a prefix before each foreign name: where a component sits in a file of several."""
    return tuple(replace(pair, foreign=prefix + pair.foreign) for pair in table)


def same_names(modules: Iterable[str]) -> Table:
    return tuple(Pair(name, (name,)) for name in modules)


def modules(table: Iterable[Pair]) -> list[str]:
    """Our names of all modules of a table, in its order."""
    return [name for pair in table for name in pair.ours]


def kohya(table: Iterable[Pair]) -> dict[str, str]:
    """Module names with dots as underscores, of both namings, -> our module name; what kohya's LoRA keys hold.

    Foreign modules that hold several of ours are left out, as no adapter addresses them by that name.
    """
    names: dict[str, str] = {}
    for pair in table:
        names.update((name.replace(".", "_"), name) for name in pair.ours)
        if len(pair.ours) == 1:
            names.setdefault(pair.foreign.replace(".", "_"), pair.ours[0])
    return names


# Flax models are older than the attention class that the VAE shares with the UNet today.
_FLAX_VAE_ATTENTION = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
_VAE_ATTENTION = re.compile(r"(.*mid_block\.attentions\.0)\.(to_q|to_k|to_v|to_out\.0)")


def flax(table: Iterable[Pair]) -> Table:
    """The Flax naming of the same modules: an index is joined to its list's name by an underscore, but in CLIP."""
    return tuple(Pair(_flax_name(name), (name,), "flax") for name in modules(table))


def _flax_name(name: str) -> str:
    if name.startswith("text_model."):
        return name
    if match := _VAE_ATTENTION.fullmatch(name):
        name = f"{match[1]}.{_FLAX_VAE_ATTENTION[match[2]]}"
    return re.sub(r"\.(\d+)(?=\.|$)", r"_\1", name)
