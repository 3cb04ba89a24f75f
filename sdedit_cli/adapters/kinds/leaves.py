"""What all kinds share: the leaves of one module, how their strength is told, and how a product takes a weight's shape.

`W` is the weight (out, in[, kh, kw]), flat is (out, in·kh·kw), `r` the rank. Files hold factors of linear layers as
(..., 1, 1) and of 1×1 convolutions without: only the flat sizes are compared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

# One module's tensors by their canonical names.
Leaves = Mapping[str, Tensor]


class Misfit(ValueError):
    """The leaves are no whole kind, or do not fit the weight. The text says what is missing, left over or too large."""


@dataclass(frozen=True)
class Scaling:
    """What no leaf says of how a module's factors are meant, but a header, a config, or the names of the file.

    `alpha` overrules the file's leaf; `rank_stabilised` divides it by √r in place of r. `of_peft`: PEFT has trained
    it, which turns convolutions the other way than OneTrainer.
    """

    alpha: float | None = None
    rank_stabilised: bool = False
    of_peft: bool = False

    @property
    def says_strength(self) -> bool:
        return self.alpha is not None or self.rank_stabilised


def scale_of(leaves: Leaves, rank: int, scaling: Scaling) -> Tensor | float:
    """What a product of factors of this rank is multiplied by: the leaf `scale`, else alpha / r, without alpha 1."""
    if "scale" in leaves:
        return _number(leaves, "scale")
    alpha = alpha_of(leaves, scaling)
    return 1.0 if alpha is None else alpha / (rank**0.5 if scaling.rank_stabilised else rank)


def exact_scale(leaves: Leaves, rank: int, scaling: Scaling) -> float:
    """`scale_of` in double precision, whatever precision says alpha: for what is written anew."""
    said = {name: leaves[name].double() for name in ("alpha", "scale") if name in leaves}
    return float(scale_of(said, rank, scaling))


def alpha_of(leaves: Leaves, scaling: Scaling) -> Tensor | float | None:
    if scaling.alpha is not None:
        return scaling.alpha
    return _number(leaves, "alpha") if "alpha" in leaves else None


def _number(leaves: Leaves, name: str) -> Tensor:
    """The leaf in float32 or double precision: a half would round what it is divided by."""
    number = single(leaves, name)
    return number if number.dtype == torch.float64 else number.float()


# The factors whose rows are the rank, of the kinds whose alpha is divided by it; of LoKr the second's wins.
_RANKED = ("down", "hada_w1_b", "lokr_w2_b", "lokr_w1_b")


def rank_of(leaves: Leaves) -> int | None:
    """What the alpha of a module is divided by; None where it is divided by nothing."""
    if "a1" in leaves:  # GLoRA's first factor is the other way round in its first layout
        return min(leaves["a1"].shape[:2])
    return next((leaves[name].shape[0] for name in _RANKED if name in leaves), None)


def single(leaves: Leaves, name: str) -> Tensor:
    """The leaf as a 0-d tensor: numbers come as such, or as (1,)."""
    if leaves[name].numel() != 1:
        raise Misfit(f"{name} has the shape {shape_of(leaves[name])}, one number is expected")
    return leaves[name].reshape(())


def matrix(leaves: Leaves, name: str) -> Tensor:
    """The leaf as (rows, everything else)."""
    leaf = leaves[name]
    if leaf.dim() < 2:
        raise Misfit(f"{name} has the shape {shape_of(leaf)}, a matrix is expected")
    return leaf.flatten(1)


def same_rank(**ranks: int) -> int:
    """The one rank that all factors have."""
    if len(set(ranks.values())) > 1:
        told = ", ".join(f"{name} {rank}" for name, rank in ranks.items())
        raise Misfit(f"the factors are of different ranks: {told}")
    rank = next(iter(ranks.values()))
    if rank < 1:
        raise Misfit("the factors are empty: their rank is 0")
    return rank


def flat_of(weight: Tensor) -> tuple[int, int]:
    """(out, in·kh·kw) of a weight that factors can be multiplied for."""
    if weight.dim() < 2:
        raise Misfit(f"the weight has the shape {shape_of(weight)}; factors fit linear and convolution layers alone")
    return weight.shape[0], weight.shape[1:].numel()


def shaped_as(weight: Tensor, delta: Tensor, what: str) -> Tensor:
    """`delta` in the shape of `weight`."""
    check_shape(weight, shape_of(delta), what)
    return delta.reshape(weight.shape)


def check_shape(weight: Tensor, shape: tuple[int, ...], what: str) -> None:
    """Raises Misfit unless the shape is the weight's, flat or with other axes of length 1 at the end."""
    flat = (*weight.shape[:1], weight.shape[1:].numel())
    if shape != flat and trimmed(shape) != trimmed(weight.shape):
        raise Misfit(f"{what} makes a change of the shape {shape}, the model's is {shape_of(weight)}")


def along(axis: int, vector: Tensor, weight: Tensor, what: str) -> Tensor:
    """The numbers of `vector`, one for each index of that axis, so that they multiply the weight along it."""
    if vector.numel() != weight.shape[axis]:
        side = "outputs" if axis == 0 else "inputs"
        raise Misfit(f"{what} has {vector.numel()} numbers, the weight {weight.shape[axis]} {side}")
    return vector.reshape([-1 if at == axis else 1 for at in range(weight.dim())])


def norm_over(tensor: Tensor, axes: Sequence[int]) -> Tensor:
    """The Euclidean norm over these axes, which stay with length 1."""
    return cast("Tensor", torch.linalg.vector_norm(tensor, dim=tuple(axes), keepdim=True))


def trimmed(shape: Sequence[int]) -> tuple[int, ...]:
    """The shape without the axes of length 1 at its end; the first axis stays."""
    end = max((at for at, size in enumerate(shape, 1) if size != 1), default=1)
    return tuple(shape[:end])


def shape_of(tensor: Tensor) -> tuple[int, ...]:
    return tuple(tensor.shape)


def for_new(dtype: torch.dtype) -> torch.dtype:
    """The precision of numbers that are made of numbers in this one: eight bits hold those of a file, and no others."""
    return torch.float16 if dtype.is_floating_point and dtype.itemsize == 1 else dtype


def is_finite(tensor: Tensor) -> bool:
    """Whether all numbers are finite. A finite sum says so at a fraction of what looking at each of them takes."""
    if tensor.is_floating_point() and tensor.dtype.itemsize == 1:
        tensor = tensor.half()  # torch neither adds nor looks at floats of eight bits; halves hold all of them
    return bool(torch.isfinite(tensor.sum())) or bool(torch.isfinite(tensor).all())
