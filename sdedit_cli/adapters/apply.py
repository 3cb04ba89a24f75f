"""What adapters make of a parameter: W + Σ s·ΔW, each ΔW of the base alone, in float32 (arXiv 2106.09685).

The one formula of networks in memory (`engine.merging`) and of checkpoints that are written anew (`merge`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ..errors import ModelError
from .deltas import Misfit, bias_delta, check, is_product, kinds_of, weight_delta
from .dialects import Module
from .kinds.leaves import is_finite
from .lora import Adapter, Patch, UnfitError
from .products import Products, Room

# Numbers of a weight that are worked on at a time: in float32 eight megabytes, so that a product is worth its threads.
_BLOCK = 1 << 21
# The share of a precision's range that bounds which are sums in float32 themselves keep to.
_SAFE = 0.9
_LARGEST = torch.finfo(torch.float32).max

Parts = tuple[tuple[Adapter, float], ...]
"""Adapters of a module with their strengths."""
ShapeOf = Callable[[Module, str], torch.Size | None]
"""The shape of a module's 'weight' or 'bias'; None where it has none."""


def check_fits(adapter: Adapter, shape_of: ShapeOf) -> None:
    """Raises UnfitError for an adapter that does not fit modules of these shapes; nothing is computed."""
    for module, patch in adapter.patches.items():
        weight = shape_of(module, "weight")
        assert weight is not None
        try:
            check(patch.leaves, weight, shape_of(module, "bias"))
        except (Misfit, RuntimeError) as problem:
            raise misfit(adapter, module, problem) from None


def changes(parts: Parts, module: Module, leaf: str) -> bool:
    """Whether one of these adapters changes the module's 'weight' or 'bias'."""
    return any(getattr(kind, leaf) for adapter, _ in parts for kind in kinds_of(adapter.patches[module].leaves))


def applied(parts: Parts, module: Module, leaf: str, base: Tensor) -> Tensor | None:
    """The 'weight' or 'bias' of a module with these adapters, float32; None where none of them changes it.

    `base` is float32. Raises ModelError as `add_changes`.
    """
    return add_changes(base.clone(), parts, module, leaf) if changes(parts, module, leaf) else None


def add_changes(total: Tensor, parts: Parts, module: Module, leaf: str) -> Tensor:
    """`total`, which begins as the base in float32, with what these adapters add to it, in place.

    Raises ModelError for an adapter that does not fit it, or adds what is not finite; `total` is of no use then.
    """
    for adapter, strength in parts:
        if abs(strength) > _LARGEST:
            raise _too_strong(adapter, module, strength)
    products = [part for part in parts if leaf == "weight" and _is_product(part[0].patches[module], total)]
    # Of the base alone, and so before anything is added to it.
    deltas = [(part, _delta(part[0], module, leaf, total)) for part in parts if part not in products]
    for adapter, strength in products:
        _add_product(total, adapter, module, strength)
    for (adapter, strength), delta in deltas:
        if delta is not None:
            total.add_(delta, alpha=strength)
            if abs(strength) > 1 and not is_finite(total):
                _check_strong(delta, adapter, module, strength)
    return total


@dataclass(frozen=True, eq=False)
class Base:
    """A parameter before any adapter."""

    tensor: Tensor

    @cached_property
    def largest(self) -> float:
        """The largest magnitude in it; NaN where it holds one."""
        low, high = self.tensor.aminmax()
        return max(-float(low), float(high))


class Workspace:
    """Memory that weights are made in, and the products that are kept from one strength to the next."""

    def __init__(self, products: Products) -> None:
        self.sum, self.product, self.products = Room(), Room(), products


def written_by_rows(parameter: Tensor, base: Base, parts: Parts, module: Module, work: Workspace) -> bool:
    """Makes a weight its base plus products of factors, in float32 and rounded once to the weight's precision.

    A block of rows at a time stays in a cache, where a whole weight goes through memory three times.
    False, and whatever in the parameter, where an adapter is no such product, does not fit, or makes it not finite: to
    be done, and told, in the long way.
    """
    patches = [adapter.patches[module] for adapter, _ in parts]
    if any(abs(strength) > _LARGEST for _, strength in parts):
        return False
    if not all(_is_product(patch, parameter) for patch in patches) or not base.tensor.is_contiguous():
        return False
    try:
        made = [work.products.rows(adapter, module, parameter, work.product) for adapter, _ in parts]
    except (Misfit, RuntimeError):
        return False
    flat, source = parameter.view(len(parameter), -1), base.tensor.view(len(parameter), -1)
    is_wide = parameter.dtype == torch.float32
    for at in _blocks(flat):
        block = (flat[at] if is_wide else work.sum.of(flat[at])).copy_(source[at])
        for product, (_, strength) in zip(made, parts, strict=True):
            block.add_(product(at), alpha=strength)
        if not is_wide:
            flat[at] = block
    # To look at the numbers takes as long as to read the base; most weights are far from where they could overflow.
    # Products are made at strength 1, and then made smaller or larger.
    bound = base.largest + sum(max(1.0, abs(strength)) * adapter.patches[module].reach for adapter, strength in parts)
    return bound < _SAFE * torch.finfo(parameter.dtype).max or is_finite(parameter)


def _blocks(flat: Tensor) -> Iterator[slice]:
    rows = max(1, _BLOCK // max(1, flat.shape[1]))
    for first in range(0, len(flat), rows):
        yield slice(first, first + rows)


def _is_product(patch: Patch, total: Tensor) -> bool:
    return is_product(patch.leaves) and total.is_contiguous()


def _add_product(total: Tensor, adapter: Adapter, module: Module, strength: float) -> None:
    flat = total.view(len(total), -1)
    try:
        product = Products().rows(adapter, module, total, Room())
        for at in _blocks(flat):
            flat[at].add_(product(at), alpha=strength)
    except (Misfit, RuntimeError) as problem:
        raise misfit(adapter, module, problem) from None
    if not is_finite(total):  # whose fault it is: the adapter's, its strength's, or the base's
        delta = _delta(adapter, module, "weight", torch.zeros_like(total))
        assert delta is not None
        _check_strong(delta, adapter, module, strength)


def _check_strong(delta: Tensor, adapter: Adapter, module: Module, strength: float) -> None:
    """Raises ModelError where it is the strength that makes a change not finite."""
    if not is_finite(delta * strength):
        raise _too_strong(adapter, module, strength)


def _too_strong(adapter: Adapter, module: Module, strength: float) -> ModelError:
    return ModelError(
        f"{adapter.path}: at the strength {strength:g} what it adds to {'.'.join(module)} is not finite; nothing was "
        "changed. Take a smaller strength."
    )


def _delta(adapter: Adapter, module: Module, leaf: str, base: Tensor) -> Tensor | None:
    patch = adapter.patches[module]
    leaves = patch.on(base.device)
    try:
        made = (
            weight_delta(leaves, base, patch.scaling) if leaf == "weight" else bias_delta(leaves, base, patch.scaling)
        )
    except (Misfit, RuntimeError) as problem:
        raise misfit(adapter, module, problem) from None
    if made is not None and not is_finite(made):
        raise ModelError(f"{adapter.path}: what it adds to {'.'.join(module)} is not finite; nothing was changed")
    return made


def misfit(adapter: Adapter, module: Module, problem: Exception) -> UnfitError:
    first = str(problem).split("\n")[0]
    return UnfitError(
        f"{adapter.path}: does not fit {'.'.join(module)} ({first}); nothing was changed.",
        "Give an adapter of the model's family, whole.",
    )
