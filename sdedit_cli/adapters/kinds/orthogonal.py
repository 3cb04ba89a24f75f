"""The kinds that rotate a weight: OFT and BOFT of kohya and LyCORIS, OFT's first form, OFTv2 of PEFT and OneTrainer.

Each returns W′ − W, so that a strength runs from the base to the rotated weight in a straight line.
"""

from __future__ import annotations

from math import isqrt

import torch
from torch import Tensor

from .leaves import Leaves, Misfit, Scaling, along, alpha_of, flat_of, norm_over, shape_of


def oft(leaves: Leaves, weight: Tensor, scaling: Scaling) -> Tensor:
    """Blocks (n, b, b) turn the outputs once, W′[k,m,…] = Σₙ R[k,n,m]·W[k,n,…]; (stages, n, b, b) are BOFT's."""
    blocks = leaves["oft_blocks"]
    check_blocks("oft_blocks", blocks, weight, (3, 4))
    rotations = cayley(limited(blocks - blocks.mT, alpha_of(leaves, scaling), weight.shape[0]))
    turned = turn_outputs(rotations, weight) if blocks.dim() == 3 else butterfly(rotations, weight)
    return rescaled(leaves, turned) - weight


def oft_first(leaves: Leaves, weight: Tensor, scaling: Scaling) -> Tensor:
    """The first form of LyCORIS: the blocks are the rotations themselves, without a limit."""
    check_blocks("oft_diag", leaves["oft_diag"], weight, (3,))
    return rescaled(leaves, turn_outputs(leaves["oft_diag"], weight)) - weight


def oft_v2(leaves: Leaves, weight: Tensor, scaling: Scaling) -> Tensor:
    """W·blockdiag(R)ᵀ − W: the inputs are turned; the vectors are the upper triangles of the skew matrices.

    One block for a wider weight is shared by all. OneTrainer turns convolutions the other way round than PEFT, by R in
    place of Rᵀ, whether or not it scales the vectors, which its marker says.
    """
    _, columns = flat_of(weight)
    vectors = leaves["oft_R"]
    if vectors.dim() != 2:
        raise Misfit(f"oft_R has the shape {shape_of(vectors)}, a matrix is expected")
    block = (1 + isqrt(1 + 8 * vectors.shape[1])) // 2
    count = columns // block
    if block * (block - 1) // 2 != vectors.shape[1] or count * block != columns or len(vectors) not in (1, count):
        raise Misfit(
            f"oft_R has the shape {shape_of(vectors)}, which cuts the weight's {columns} inputs into no blocks"
        )
    if "oft_R_scaled" in leaves:
        vectors = vectors / (2 * (block - 1) ** 0.5)
    rotations = neumann(upper_triangles(vectors, block))
    if weight.dim() > 2 and not scaling.of_peft:
        rotations = rotations.mT
    cut = weight.reshape(-1, count, block)
    return torch.einsum("okc,kjc->okj", cut, rotations.expand(count, block, block)).reshape(weight.shape) - weight


def check_blocks(name: str, blocks: Tensor, weight: Tensor, dims: tuple[int, ...]) -> None:
    rows, _ = flat_of(weight)
    *_, count, height, width = (0, 0, 0, *blocks.shape)
    if blocks.dim() not in dims or height != width or count * height != rows:
        raise Misfit(f"{name} has the shape {shape_of(blocks)}, which cuts the weight's {rows} outputs into no blocks")
    stages = blocks.shape[0] if blocks.dim() == 4 else 0
    # Stage i mixes pairs of rows that are 2ⁱ·b/2 apart.
    if stages and (height % 2 or rows % (2**stages * (height // 2))):
        raise Misfit(f"{name} has the shape {shape_of(blocks)}: {rows} outputs do not have {stages} butterfly stages")


def limited(skew: Tensor, alpha: Tensor | float | None, rows: int) -> Tensor:
    """The skew matrices, shrunk so that the norm of all together is alpha·out at most; 0 or no alpha is no limit."""
    if alpha is None:
        return skew
    limit = torch.as_tensor(alpha, dtype=skew.dtype, device=skew.device) * rows
    norm = norm_over(skew, range(skew.dim()))
    # Without a branch on a tensor's value: a GPU is not waited for.
    return torch.where((limit > 0) & (norm > limit), skew * (limit / norm), skew)


def cayley(skew: Tensor) -> Tensor:
    """(I + Q)(I − Q)⁻¹, a rotation for every skew matrix Q."""
    eye = torch.eye(skew.shape[-1], dtype=skew.dtype, device=skew.device)
    return (eye + skew) @ (eye - skew).inverse()


def neumann(skew: Tensor) -> Tensor:
    """I + 2Q + 2Q² + 2Q³ + Q⁴: the five terms that PEFT takes for Cayley's formula, not the exact inverse."""
    eye = torch.eye(skew.shape[-1], dtype=skew.dtype, device=skew.device)
    square = skew @ skew
    cube = square @ skew
    return eye + 2 * (skew + square + cube) + cube @ skew


def upper_triangles(vectors: Tensor, size: int) -> Tensor:
    """Skew matrices (n, size, size) from the entries above their diagonals, row by row."""
    above = torch.zeros(len(vectors), size, size, dtype=vectors.dtype, device=vectors.device)
    row, column = torch.triu_indices(size, size, 1, device=vectors.device)
    above[:, row, column] = vectors
    return above - above.mT


def turn_outputs(rotations: Tensor, weight: Tensor) -> Tensor:
    """Every block of output rows turned by its own rotation, transposed."""
    rows = weight.reshape(*rotations.shape[:2], -1)
    return (rotations.mT @ rows).reshape(weight.shape)


def butterfly(rotations: Tensor, weight: Tensor) -> Tensor:
    """The stages one after another: rows far apart are brought together, turned by their blocks, and put back."""
    _, count, block, _ = rotations.shape
    rows = weight.flatten(1)
    for stage, rotation in enumerate(rotations):
        apart = 2**stage * block // 2
        near = rows.reshape(-1, 2, apart, rows.shape[1]).transpose(1, 2).reshape(count, block, -1)
        rows = (rotation @ near).reshape(-1, apart, 2, rows.shape[1]).transpose(1, 2).flatten(0, 2)
    return rows.reshape(weight.shape)


def rescaled(leaves: Leaves, weight: Tensor) -> Tensor:
    return weight * along(0, leaves["rescale"], weight, "rescale") if "rescale" in leaves else weight
