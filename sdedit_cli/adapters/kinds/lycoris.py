"""The kinds of LyCORIS that are products: LoHa (Hadamard), LoKr (Kronecker), (IA)³ and GLoRA."""

from __future__ import annotations

import torch
from torch import Tensor

from .leaves import Leaves, Misfit, Scaling, along, flat_of, matrix, same_rank, scale_of, shape_of, shaped_as, single


def loha(leaves: Leaves, weight: Tensor, scaling: Scaling) -> Tensor:
    """(w1_a·w1_b)∘(w2_a·w2_b)·alpha/r, each half through its core where there is one; r is the rows of w1_b."""
    flat_of(weight)
    first, second = half(leaves, 1), half(leaves, 2)
    rank = same_rank(hada_w1_b=leaves["hada_w1_b"].shape[0], hada_w2_b=leaves["hada_w2_b"].shape[0])
    if first.shape != second.shape:
        raise Misfit(f"the halves of LoHa have the shapes {shape_of(first)} and {shape_of(second)}")
    return shaped_as(weight, first.mul_(second).mul_(scale_of(leaves, rank, scaling)), "LoHa")


def half(leaves: Leaves, n: int) -> Tensor:
    a, b = f"hada_w{n}_a", f"hada_w{n}_b"
    if f"hada_t{n}" in leaves:
        return through_core(leaves, f"hada_t{n}", a, b)
    same_rank(**{a: matrix(leaves, a).shape[1], b: matrix(leaves, b).shape[0]})
    return matrix(leaves, a) @ matrix(leaves, b)


def through_core(leaves: Leaves, core: str, a: str, b: str) -> Tensor:
    """Σ t[i,j,k,l]·b[j,q]·a[i,p] as (p, q, k, l): here the rows of both factors are the rank."""
    t, wa, wb = leaves[core], matrix(leaves, a), matrix(leaves, b)
    if t.dim() < 3:
        raise Misfit(f"{core} has the shape {shape_of(t)}, (rank, rank, kernel height, kernel width) is expected")
    same_rank(**{core: t.shape[0], a: wa.shape[0]})
    same_rank(**{core: t.shape[1], b: wb.shape[0]})
    return torch.einsum("ij...,ip,jq->pq...", t, wa, wb)


def lokr(leaves: Leaves, weight: Tensor, scaling: Scaling) -> Tensor:
    """kron(w1, w2)·scale. The kernel of a convolution is w2's; either factor may be the larger one.

    The scale is alpha/r of the factor that is a product, w2's where both are, and 1 whatever alpha says if both are
    whole matrices.
    """
    rows, columns = flat_of(weight)
    (w1, rank1), (w2, rank2) = kron_factor(leaves, 1), kron_factor(leaves, 2)
    if w1.shape[2:].numel() != 1:
        raise Misfit(f"the first factor of LoKr has the shape {shape_of(w1)}, a matrix is expected")
    w1, w2 = w1.flatten(1), w2.flatten(1)
    kernel = weight.shape[2:].numel()
    if (w1.shape[0] * w2.shape[0], w1.shape[1] * w2.shape[1]) != (rows, columns) or w2.shape[1] % kernel:
        raise Misfit(
            f"the Kronecker product of {shape_of(w1)} and {shape_of(w2)} is not of the weight's size {shape_of(weight)}"
        )
    if (rank := rank2 or rank1) or "scale" in leaves:
        w1 = w1 * scale_of(leaves, rank or 1, scaling)
    return torch.kron(w1.contiguous(), w2.contiguous()).reshape(weight.shape)


def kron_factor(leaves: Leaves, n: int) -> tuple[Tensor, int | None]:
    """A factor of LoKr, and the rank that it was made with, None for a whole matrix."""
    whole, a, b, core = f"lokr_w{n}", f"lokr_w{n}_a", f"lokr_w{n}_b", f"lokr_t{n}"
    if whole in leaves:
        matrix(leaves, whole)
        return leaves[whole], None
    if core in leaves:
        return through_core(leaves, core, a, b), leaves[b].shape[0]
    rank = same_rank(**{a: matrix(leaves, a).shape[1], b: matrix(leaves, b).shape[0]})
    return matrix(leaves, a) @ matrix(leaves, b), rank


def ia3(leaves: Leaves, weight: Tensor, scaling: Scaling) -> Tensor:
    """W·w along the inputs if `ia3_on_input`, else along the outputs; convolutions hold w as (1, n, 1, 1)."""
    flat_of(weight)
    axis = 1 if bool(single(leaves, "ia3_on_input")) else 0
    return weight * along(axis, leaves["ia3_weight"], weight, "(IA)³")


def glora(leaves: Leaves, weight: Tensor, scaling: Scaling) -> Tensor:
    """(W·A + B)·alpha/r, A on the input channels: A = a1·a2 and B = b1·b2, in the first layout a2·a1 and b2·b1.

    The shapes tell the layouts apart; where both fit (full rank and square) it is taken for the first.
    """
    rows, columns = flat_of(weight)
    a1, a2, b1, b2 = (matrix(leaves, name) for name in ("a1", "a2", "b1", "b2"))
    for a_up, a_down, b_up, b_down in ((a2, a1, b2, b1), (a1, a2, b1, b2)):
        rank = a_down.shape[0]
        wanted = ((weight.shape[1], rank), (rank, weight.shape[1]), (rows, rank), (rank, columns))
        if tuple(map(shape_of, (a_up, a_down, b_up, b_down))) == wanted:
            turned = torch.einsum("oi...,ir,rj->oj...", weight, a_up, a_down)
            return turned.add_((b_up @ b_down).reshape(weight.shape)).mul_(scale_of(leaves, rank, scaling))
    shapes = ", ".join(f"{name} {shape_of(leaves[name])}" for name in ("a1", "a2", "b1", "b2"))
    raise Misfit(f"the factors of GLoRA ({shapes}) fit the weight {shape_of(weight)} in neither of its layouts")
