"""Group norms of pictures with their channels last are as exact as those of pictures that lie plainly."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from sdedit_cli.runtime.cpu import in_place


@torch.no_grad()
@pytest.mark.parametrize(
    "shape",
    [(2, 32, 8, 8), (1, 64, 1, 9), (3, 64, 17, 13), (2, 32, 130, 100), (1, 32, 3, 5000), (1, 128, 256, 256)],
    ids=str,
)
@pytest.mark.parametrize("mean", [0, 30, -1000])
def test_a_mean_far_from_zero_costs_no_more_digits_than_where_pictures_lie_plainly(
    shape: tuple[int, ...], mean: float
) -> None:
    torch.manual_seed(0)
    # Channels of a group and places of a picture differ in their means as well.
    x = torch.randn(shape) + mean + torch.randn(shape[1])[:, None, None] + torch.linspace(-1, 1, shape[2])[:, None]
    w, b = torch.randn(shape[1]), torch.randn(shape[1])
    exact = F.group_norm(x.double(), 16, w.double(), b.double(), 1e-6)
    plainly = in_place.group_norm(x, 16, w, b, 1e-6)
    found = in_place.group_norm(x.contiguous(memory_format=torch.channels_last), 16, w, b, 1e-6)
    assert found.is_contiguous(memory_format=torch.channels_last)
    worst = float((plainly - exact).abs().max())
    assert float((found - exact).abs().max()) < 4 * worst + 2e-6


@torch.no_grad()
def test_numbers_that_are_not_finite_stay_within_their_group() -> None:
    x = torch.randn(2, 32, 6, 5)
    x[1, 3, 2, 2] = float("nan")
    one, other = (
        in_place.group_norm(x.contiguous(memory_format=form), 8, torch.ones(32), torch.zeros(32), 1e-6)
        for form in (torch.contiguous_format, torch.channels_last)
    )
    assert torch.equal(one.isnan(), other.isnan())
    assert int(other.isnan().sum()) == 4 * 6 * 5
