"""Adapters into a checkpoint: what becomes of each of its tensors, worked out when it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from torch import Tensor

from .apply import Parts, applied, changes
from .dialects import Module
from .set import AdapterSet


def changed_parameters(wanted: AdapterSet) -> Mapping[str, Mapping[str, Callable[[Tensor], Tensor]]]:
    """By component and name of a parameter, what is made of it in float32 by the active adapters.

    Whether they fit is to be checked before (`apply.check_fits`).
    """
    made: dict[str, dict[str, Callable[[Tensor], Tensor]]] = {}
    for module, parts in wanted.patched().items():
        slot, name = module
        for leaf in ("weight", "bias"):
            if changes(parts, module, leaf):
                made.setdefault(slot, {})[f"{name}.{leaf}"] = partial(_changed, parts, module, leaf)
    return made


def _changed(parts: Parts, module: Module, leaf: str, base: Tensor) -> Tensor:
    made = applied(parts, module, leaf, base.float())
    assert made is not None
    return made
