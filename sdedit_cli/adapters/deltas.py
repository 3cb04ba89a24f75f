"""stub until the real one lands"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from torch import Tensor

Leaves = Mapping[str, Tensor]


class Misfit(ValueError): ...


@dataclass(frozen=True)
class Scaling:
    alpha: float | None = None
    rank_stabilised: bool = False


@dataclass(frozen=True)
class Kind:
    name: str
    words: str


def kinds_of(leaves: Collection[str]) -> tuple[Kind, ...]:
    if not {"down", "up"} <= set(leaves):
        raise Misfit(f"half: {sorted(leaves)}")
    return (Kind("lora", "LoRA"),)


def weight_delta(leaves: Leaves, weight: Tensor, scaling: Scaling = Scaling()) -> Tensor | None:
    r = leaves["down"].shape[0]
    a = scaling.alpha if scaling.alpha is not None else float(leaves["alpha"]) if "alpha" in leaves else r
    return (leaves["up"].flatten(1) @ leaves["down"].flatten(1)).reshape(weight.shape) * (
        a / (r**0.5 if scaling.rank_stabilised else r)
    )


def bias_delta(leaves: Leaves, bias: Tensor, scaling: Scaling = Scaling()) -> Tensor | None:
    return None
