"""What adapters make of a parameter: W + Σ s·ΔW, each ΔW of the base alone, in float32 (arXiv 2106.09685).

The one formula of networks in memory (`engine.merging`) and of checkpoints that are written anew (`merge`).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..errors import ModelError
from .deltas import Misfit, bias_delta, check, weight_delta
from .dialects import Module
from .lora import Adapter

Parts = tuple[tuple[Adapter, float], ...]
"""Adapters of a module with their strengths."""
ShapeOf = Callable[[Module, str], torch.Size | None]
"""The shape of a module's 'weight' or 'bias'; None where it has none."""


def check_fits(adapter: Adapter, shape_of: ShapeOf) -> None:
    """Raises ModelError for an adapter that does not fit modules of these shapes; nothing is computed."""
    for module, patch in adapter.patches.items():
        weight = shape_of(module, "weight")
        assert weight is not None
        try:
            check(patch.leaves, weight, shape_of(module, "bias"))
        except (Misfit, RuntimeError) as problem:
            raise misfit(adapter, module, problem) from None


def applied(parts: Parts, module: Module, leaf: str, base: Tensor) -> Tensor | None:
    """The 'weight' or 'bias' of a module with these adapters, float32; None where none of them changes it.

    `base` is float32. Raises ModelError for an adapter that does not fit it, or makes it something that is not finite.
    """
    made = [(_delta(adapter, module, leaf, base), strength) for adapter, strength in parts]
    deltas = [(delta, strength) for delta, strength in made if delta is not None]
    if not deltas:
        return None
    first, strength = deltas[0]
    total = torch.add(base, first, alpha=strength)
    for delta, strength in deltas[1:]:
        total.add_(delta, alpha=strength)
    return total


def _delta(adapter: Adapter, module: Module, leaf: str, base: Tensor) -> Tensor | None:
    patch = adapter.patches[module]
    leaves = {name: tensor.to(base.device) for name, tensor in patch.leaves.items()}
    try:
        made = (
            weight_delta(leaves, base, patch.scaling) if leaf == "weight" else bias_delta(leaves, base, patch.scaling)
        )
    except (Misfit, RuntimeError) as problem:
        raise misfit(adapter, module, problem) from None
    if made is not None and not bool(torch.isfinite(made).all()):
        raise ModelError(f"{adapter.path}: what it adds to {'.'.join(module)} is not finite; nothing was changed")
    return made


def misfit(adapter: Adapter, module: Module, problem: Exception) -> ModelError:
    first = str(problem).split("\n")[0]
    return ModelError(
        f"{adapter.path}: does not fit {'.'.join(module)} ({first}); nothing was changed.\n"
        "Give an adapter of the model's family."
    )
