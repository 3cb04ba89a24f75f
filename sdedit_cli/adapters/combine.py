"""Several adapters as one, and one in another rank: what LoRA's factors can hold without the model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import ModelError
from .apply import misfit
from .deltas import Kind, Misfit, bias_delta, kinds_of, weight_delta
from .dialects import Module
from .kinds.leaves import exact_scale, is_finite, rank_of
from .kinds.lora import thin_factors
from .lora import Adapter, Patch
from .lowrank import Cut, Keep, cut_matrix, cut_product
from .set import AdapterSet

ShapeOf = Callable[[Module], torch.Size]
_EXACT = frozenset({"lora", "lora_bias", "full", "bias", "norm", "norm_bias"})
"""Kinds whose sums are of their own kind."""
_FACTORED = frozenset({"lora", "lora_bias"})


@dataclass(frozen=True)
class Combined:
    """What became of a module: its leaves, and what was lost where a rank was asked for."""

    module: Module
    patch: Patch
    cut: Cut | None = None


def combined(wanted: AdapterSet, keep: Keep | None, shape_of: ShapeOf) -> Iterator[Combined]:
    """The modules of one adapter that is the sum of the active ones, at their strengths.

    Without `keep` factors are put side by side, which is exact; with it the sum is brought to a rank by its singular
    values. Raises ModelError for kinds that cannot be told without the base, or without a rank.
    """
    for module, parts in wanted.patched().items():
        patches = [(adapter, adapter.patches[module], strength) for adapter, strength in parts]
        for adapter, patch, _ in patches:
            _refuse(adapter, module, kinds_of(patch.leaves), keep)
        try:
            made = _combine(module, [(patch, strength) for _, patch, strength in patches], keep, shape_of(module))
        except (Misfit, RuntimeError) as problem:
            raise misfit(patches[0][0], module, problem) from None
        if not all(map(is_finite, made.patch.leaves.values())):
            raise ModelError(
                f"{patches[0][0].path}: {'.'.join(module)} has numbers at this strength that are not finite; take a "
                "smaller strength"
            )
        yield made


def _refuse(adapter: Adapter, module: Module, kinds: Sequence[Kind], keep: Keep | None) -> None:
    name = ".".join(module)
    if of_base := [kind.words for kind in kinds if kind.of_base]:
        raise ModelError(
            f"{adapter.path}: {name} is {of_base[0]}, whose change depends on the model's weights; merge it into a "
            "checkpoint: sdedit lora merge BASE DST --lora ..."
        )
    others = [kind.words for kind in kinds if kind.name not in _EXACT]
    if others and keep is None:
        raise ModelError(
            f"{adapter.path}: {name} is {others[0]}, whose sum with others is none; give --rank N to bring it to a LoRA"
        )


def _combine(module: Module, parts: Sequence[tuple[Patch, float]], keep: Keep | None, shape: torch.Size) -> Combined:
    if keep is not None and len(shape) > 1:
        return _cut(module, parts, keep, shape)
    leaves: dict[str, Tensor] = {}
    factors = [_factors(patch, strength, shape) for patch, strength in parts if "down" in patch.leaves]
    # The first file's factors stay as they are: its scale is taken for all.
    unit = abs(factors[0].scale) or 1.0 if factors else 1.0
    if factors:
        leaves["down"] = _wide([f.down for f in factors])
        leaves["up"] = torch.cat([f.up.float() * (f.scale / unit) for f in factors], dim=1)
        leaves["alpha"] = torch.tensor(unit * leaves["down"].shape[0])
    for name in ("diff", "diff_b", "w_norm", "b_norm"):
        told = [patch.leaves[name].float() * strength for patch, strength in parts if name in patch.leaves]
        if told:
            leaves[name] = torch.stack(told).sum(0)
    biases = [
        patch.leaves["up_bias"].float().flatten() * (_scale(patch) * strength / unit)
        for patch, strength in parts
        if "up_bias" in patch.leaves
    ]
    if biases:
        leaves["up_bias"] = torch.stack(biases).sum(0)
    return Combined(module, Patch(leaves))


def _wide(factors: Sequence[Tensor]) -> Tensor:
    return torch.cat([factor.float() for factor in factors])


@dataclass(frozen=True)
class _Factors:
    """up (out, r[, 1, 1]) · down (r, in[, kh, kw]) · scale."""

    up: Tensor
    down: Tensor
    scale: float


def _factors(patch: Patch, strength: float, shape: torch.Size) -> _Factors:
    return _Factors(*thin_factors(patch.leaves, shape), _scale(patch) * strength)


def _scale(patch: Patch) -> float:
    return exact_scale(patch.leaves, rank_of(patch.leaves) or 1, patch.scaling)


def _cut(module: Module, parts: Sequence[tuple[Patch, float]], keep: Keep, shape: torch.Size) -> Combined:
    kinds = {kind.name for patch, _ in parts for kind in kinds_of(patch.leaves) if kind.weight}
    leaves: dict[str, Tensor] = {}
    cut = None
    if kinds and kinds <= _FACTORED:
        factors = [_factors(patch, strength, shape) for patch, strength in parts if "down" in patch.leaves]
        up = torch.cat([f.up.float().flatten(1) * f.scale for f in factors], dim=1)
        cut = cut_product(up, _wide([f.down for f in factors]).flatten(1), keep)
    elif kinds:
        base = torch.zeros(shape)
        made = [(weight_delta(patch.leaves, base, patch.scaling), strength) for patch, strength in parts]
        total = sum((delta * strength for delta, strength in made if delta is not None), base)
        cut = cut_matrix(total.flatten(1), keep)
    if cut is not None:
        leaves |= factors_of(cut, shape)
    none = torch.zeros(shape[0])
    biases = [(bias_delta(patch.leaves, none, patch.scaling), strength) for patch, strength in parts]
    if told := [delta * strength for delta, strength in biases if delta is not None]:
        leaves["diff_b"] = torch.stack(told).sum(0)
    return Combined(module, Patch(leaves), cut)


def factors_of(cut: Cut, shape: torch.Size) -> dict[str, Tensor]:
    """The leaves of a LoRA for a weight of that shape, a convolution's kernel in the lower factor."""
    rank = cut.down.shape[0]
    ones = [1] * (len(shape) - 2)
    return {
        "down": cut.down.reshape(rank, *shape[1:]),
        "up": cut.up.reshape(shape[0], rank, *ones),
        "alpha": torch.tensor(float(rank)),
    }
