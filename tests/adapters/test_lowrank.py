"""Thin factors of matrices are the nearest of their rank, as all singular values say."""

from __future__ import annotations

import pytest
import torch

from sdedit_cli.adapters.lowrank import Cut, Keep, cut_matrix, cut_product, norm_of_product

SHAPES = ((12, 30), (30, 12), (16, 16), (1, 9), (9, 1))


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def lost(matrix: torch.Tensor, cut: Cut) -> float:
    return float((cut.up @ cut.down - matrix).norm() / matrix.norm())


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("rank", [1, 4, 40])
def test_the_error_is_that_of_the_values_left_out(shape: tuple[int, int], rank: int) -> None:
    matrix = random(*shape)
    values = torch.linalg.svdvals(matrix.double())
    least = float(values[rank:].square().sum().sqrt() / values.square().sum().sqrt())
    wide = torch.eye(shape[0])
    for cut in (cut_matrix(matrix, Keep(rank)), cut_product(wide, matrix, Keep(rank))):
        assert cut.down.shape[0] == min(rank, *shape)
        assert lost(matrix, cut) == pytest.approx(least, abs=1e-5)
        assert cut.error == pytest.approx(least, abs=1e-6)
        assert cut.norm == pytest.approx(float(matrix.norm()), rel=1e-5)


@pytest.mark.parametrize("energy", [0.1, 0.5, 0.9, 1.0])
def test_an_energy_is_kept_with_the_smallest_rank(energy: float) -> None:
    matrix = random(20, 50)
    shares = torch.linalg.svdvals(matrix.double()).square().cumsum(0)
    shares /= float(shares[-1])
    cut = cut_matrix(matrix, Keep(energy=energy))
    rank = cut.down.shape[0]
    assert shares[rank - 1] >= energy - 1e-9
    assert rank == 1 or shares[rank - 2] < energy
    assert 1 - cut.error**2 >= energy - 1e-6


def test_what_rounding_left_is_no_rank() -> None:
    """A product of rank 3 in float32 is three factors, however many are asked for; zeros are zeros."""
    matrix = random(20, 3) @ random(3, 40, seed=1)
    for cut in (cut_matrix(matrix, Keep(16)), cut_product(random(20, 3), random(3, 40, seed=1), Keep(16))):
        assert cut.down.shape[0] == 3
        assert lost(matrix, cut) < 1e-5
    nothing = cut_matrix(torch.zeros(4, 6), Keep(2))
    assert nothing.error == 0.0
    assert not (nothing.up @ nothing.down).any()


def test_norms_of_products_are_those_of_the_matrix() -> None:
    up, down = random(20, 3), random(3, 40, seed=1)
    assert norm_of_product(up, down) == pytest.approx(float((up @ down).norm()), rel=1e-5)
