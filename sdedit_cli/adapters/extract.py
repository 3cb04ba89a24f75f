"""What a tuned model adds to its base, as a LoRA: the nearest thin factors of each weight's difference."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import ModelError
from ..weights.formats.source import WeightSource
from .combine import factors_of
from .dialects import Module
from .lora import Patch
from .lowrank import Cut, Keep, cut_matrix


@dataclass(frozen=True)
class Extracted:
    """A module of the tuned model; `cut` and `patch` are None where nothing of it changed."""

    module: Module
    patch: Patch | None = None
    cut: Cut | None = None


def extracted(
    tuned: Mapping[str, WeightSource], base: Mapping[str, WeightSource], modules: Sequence[Module], keep: Keep
) -> Iterator[Extracted]:
    """The modules one after another: memory holds one weight of each. Sources are by component, in our names.

    Raises ModelError for a difference that is not finite.
    """
    for module in modules:
        slot, name = module
        key = f"{name}.weight"
        difference = _difference(tuned[slot], base[slot], key)
        if difference is None:
            yield Extracted(module)
            continue
        if not bool(difference.isfinite().all()):
            raise ModelError(f"{tuned[slot].path}: '{key}' has numbers that are not finite; download the model again")
        cut = cut_matrix(difference.flatten(1), keep)
        yield Extracted(module, Patch(factors_of(cut, difference.shape)), cut)


def unheld(tuned: Mapping[str, WeightSource], base: Mapping[str, WeightSource], modules: Sequence[Module]) -> list[str]:
    """The parameters that changed and are no weight of a module: biases, norms, tables. A LoRA does not hold them."""
    held = {(slot, f"{name}.weight") for slot, name in modules}
    return [
        f"{slot}.{name}"
        for slot, source in base.items()
        for name in source.names()
        if (slot, name) not in held and _difference(tuned[slot], source, name) is not None
    ]


def check_same_shapes(tuned: Mapping[str, WeightSource], base: Mapping[str, WeightSource]) -> None:
    """Raises ModelError when one model is no tuned form of the other."""
    for slot, source in base.items():
        other = tuned[slot]
        known = set(other.names())
        for name in source.names():
            shape = other.shape(name) if name in known else None
            if shape != source.shape(name):
                raise ModelError(
                    f"{other.path}: its '{name}' has the shape {list(shape) if shape else 'of none'}, that of "
                    f"{source.path} {list(source.shape(name))}; give the model that it was tuned from"
                )


def _difference(tuned: WeightSource, base: WeightSource, key: str) -> Tensor | None:
    """Tuned minus base in float32; None where they are the same in the coarser of their precisions."""
    after, before = tuned.get(key), base.get(key)
    coarse = max((after.dtype, before.dtype), key=lambda dtype: torch.finfo(dtype).eps)
    try:
        if torch.equal(after.to(coarse), before.to(coarse)):
            return None
        return after.float() - before.float()
    finally:
        tuned.release(key)
        base.release(key)
