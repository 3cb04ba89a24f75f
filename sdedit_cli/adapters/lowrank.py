"""The product of two thin factors that is nearest to a matrix, by its singular values (Eckart and Young, 1936)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

# Squares of singular values below this share of the largest are what rounding left, and no rank.
_NOTHING = 1e-12
_TINY = torch.finfo(torch.float64).tiny


@dataclass(frozen=True)
class Keep:
    """How much of a matrix to keep: a `rank`, or the smallest rank that has this share of the `energy` (Σσ²)."""

    rank: int | None = None
    energy: float | None = None

    def count(self, squares: Tensor) -> int:
        """How many of the singular values, whose squares these are in falling order, to keep: at least one."""
        real = max(1, int((squares > squares[0] * _NOTHING).sum()))
        if self.energy is not None:
            sums = squares.cumsum(0)
            wanted = int((sums < self.energy * sums[-1]).sum()) + 1
        else:
            wanted = self.rank or real
        return min(wanted, real)


@dataclass(frozen=True)
class Cut:
    """`up` (out, r) · `down` (r, in), float32, the norm of what they stand for, and the share of it that they lack."""

    up: Tensor
    down: Tensor
    norm: float
    error: float


def cut_matrix(matrix: Tensor, keep: Keep) -> Cut:
    """The nearest product to a matrix (out, in).

    From the eigenvectors of its smaller Gram matrix in double precision: much less work than all singular vectors, and
    values down to 1e-8 of the largest are right.
    """
    wide = matrix.double()
    if wide.shape[0] > wide.shape[1]:
        turned = cut_matrix(matrix.mT, keep)
        return Cut(turned.down.mT.contiguous(), turned.up.mT.contiguous(), turned.norm, turned.error)
    values, vectors = cast("tuple[Tensor, Tensor]", torch.linalg.eigh(wide @ wide.mT))
    squares, vectors = values.flip(0).clamp_(min=0), vectors.flip(1)
    count = keep.count(squares)
    left = vectors[:, :count]
    left = left * _signs(left)
    # Both factors as large as each other: half precision then has room for either.
    roots = squares[:count].clamp(min=_TINY).pow(0.25)
    return _cut(left * roots, (left.mT @ wide) / roots[:, None], squares, count)


def cut_product(up: Tensor, down: Tensor, keep: Keep) -> Cut:
    """The nearest product of another rank to up (out, r) · down (r, in), which is never multiplied out."""
    q_up, r_up = cast("tuple[Tensor, Tensor]", torch.linalg.qr(up.double()))
    q_down, r_down = cast("tuple[Tensor, Tensor]", torch.linalg.qr(down.double().mT))
    left, values, right = cast("tuple[Tensor, Tensor, Tensor]", torch.linalg.svd(r_up @ r_down.mT, full_matrices=False))
    count = keep.count(values.square())
    outputs = q_up @ left[:, :count]
    roots = values[:count].clamp(min=_TINY).sqrt() * _signs(outputs)
    inputs = right[:count] @ q_down.mT
    return _cut(outputs * roots, inputs * roots[:, None], values.square(), count)


def norm_of_product(up: Tensor, down: Tensor) -> float:
    """The Frobenius norm of up · down, which is never multiplied out."""
    up, down = up.double(), down.double()
    square = float(((up.mT @ up) * (down @ down.mT)).sum())
    return 0.0 if square < 0 else square**0.5  # and not a number where a factor is none


def _cut(up: Tensor, down: Tensor, squares: Tensor, count: int) -> Cut:
    total, rest = float(squares.sum()), float(squares[count:].sum())
    error = (rest / total) ** 0.5 if total else 0.0
    return Cut(up.float().contiguous(), down.float().contiguous(), total**0.5, error)


def _signs(vectors: Tensor) -> Tensor:
    """1 or -1 for each column, so that its largest entry is positive: which of both a solver gives is chance."""
    largest = vectors.gather(0, vectors.abs().argmax(0, keepdim=True))[0]
    return torch.where(largest < 0, -1.0, 1.0).to(vectors.dtype)
