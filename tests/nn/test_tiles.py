"""Tiles cover every place with weights that sum to one, and what is blended of them depends on no order of work."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import conv2d

from sdedit_cli.nn import Tiles, blended, wrapped
from sdedit_cli.nn.base import Conv2d
from sdedit_cli.nn.tiling import Pieces, crossfaded

SIDES = st.integers(2, 24)
SHARES = st.sampled_from([0.0, 0.25, 0.5, 0.75])


@given(st.integers(1, 200), SIDES, st.data(), SHARES, st.booleans(), st.sampled_from([1, 4, 8]))
def test_weights_sum_to_one_everywhere(
    length: int, side: int, data: st.DataObject, shift: float, wraps: bool, factor: int
) -> None:
    overlap = data.draw(st.integers(1, max(1, side // 2)))
    tiles = Tiles(side, overlap, shift=shift)
    spans = tiles.spans(length, wraps, factor)
    total = torch.zeros(length * factor, dtype=torch.float64)
    for start, weights in spans:
        assert len(weights) == min(side, length) * factor
        assert wraps or 0 <= start <= length - min(side, length)
        assert bool((weights > 0).all())
        total[(torch.arange(len(weights)) + start * factor) % len(total)] += weights
    assert torch.allclose(total, torch.ones_like(total), atol=1e-6)
    if length > side:
        starts = sorted(start for start, _ in spans)
        gaps = [b - a for a, b in zip(starts, [*starts[1:], starts[0] + length] if wraps else starts[1:], strict=False)]
        assert max(gaps) <= side - overlap, "neighbours overlap by at least that much"


@given(st.integers(9, 40), st.integers(9, 40), SHARES, st.booleans(), st.booleans(), st.integers(1, 5))
def test_what_changes_nothing_gives_the_picture_back(
    height: int, width: int, shift: float, x: bool, y: bool, together: int
) -> None:
    image = torch.randn(2, 3, height, width)
    out = blended(lambda part: part, image, Tiles(8, 3, (x, y), shift), together=together)
    assert torch.allclose(out, image, atol=1e-6)


def test_work_sees_one_shape_and_every_tile_once() -> None:
    seen: list[torch.Size] = []

    def work(part: Tensor) -> Tensor:
        seen.append(part.shape)
        return part

    blended(work, torch.randn(2, 3, 20, 30), Tiles(8, 2), together=4)
    # 3 rows of 5 tiles are 15: four calls of 4, the last one short and padded, each with both rows of the batch.
    assert seen == [torch.Size([8, 3, 8, 8])] * 4


def test_no_bit_depends_on_the_order_or_the_grouping_of_tiles() -> None:
    """Which tiles share a call is chosen for speed; sums are made in one order."""
    weight = torch.randn(3, 3, 3, 3)

    def work(part: Tensor) -> Tensor:
        # One row at a time, in an order of its own: a kernel's rounding by batch is another matter.
        order = torch.randperm(len(part)).tolist()
        rows = {k: conv2d(part[k : k + 1], weight, padding=1) for k in order}
        return torch.cat([rows[k] for k in range(len(part))])

    image = torch.randn(2, 3, 21, 34)
    first, *others = (blended(work, image, Tiles(8, 3), together=n) for n in (1, 2, 3, 5, 8))
    assert all(torch.equal(first, other) for other in others)


def test_one_tile_that_covers_all_is_the_plain_work() -> None:
    image = torch.randn(1, 3, 8, 5)
    assert torch.equal(blended(torch.tanh, image, Tiles(8, 4)), torch.tanh(image))


@pytest.mark.parametrize("axis", [2, 3])
def test_tiles_that_go_round_know_no_edge(axis: int) -> None:
    """A picture moved along an axis that wraps, by the way from one tile to the next, gives the moved result."""
    weight = torch.randn(3, 3, 3, 3)
    tiles = Tiles(8, 2, (axis == 3, axis == 2))
    image = torch.randn(1, 3, 24, 24)

    def out(x: Tensor) -> Tensor:
        return blended(lambda part: conv2d(part, weight, padding=1), x, tiles)

    assert torch.allclose(out(image.roll(6, axis)), out(image).roll(6, axis), atol=1e-5)
    assert not torch.allclose(out(image.roll(6, 5 - axis)), out(image).roll(6, 5 - axis), atol=1e-3)


@pytest.mark.parametrize(("before", "after"), [(4, 1), (1, 4)])
def test_tiles_of_latents_cut_pictures_too(before: int, after: int) -> None:
    """As the autoencoder uses them: places of latents, and so many pixels for each of them on one side."""
    image = torch.randn(1, 2, 20 * before, 17 * before)

    def work(part: Tensor) -> Tensor:
        if before > 1:
            return torch.nn.functional.avg_pool2d(part, before)
        return part.repeat_interleave(after, 2).repeat_interleave(after, 3)

    assert torch.allclose(blended(work, image, Tiles(8, 2), before, after), work(image), atol=1e-6)


def test_tiles_of_pieces_come_before_the_autoencoders_own() -> None:
    from fractions import Fraction

    calls: list[torch.Size] = []

    def work(part: Tensor) -> Tensor:
        calls.append(part.shape[-2:])
        return part

    Pieces(tiling=True, tiles=Tiles(8, 2)).run(work, torch.randn(1, 1, 20, 20), crossfaded, 10, Fraction(1))
    assert set(calls) == {torch.Size([8, 8])}


@pytest.mark.parametrize("stride", [1, 2])
def test_convolutions_wrap_as_torch_wraps_and_stop_after_the_block(stride: int) -> None:
    torch.manual_seed(0)
    ours = Conv2d(3, 4, 3, padding=1, stride=stride)
    theirs = torch.nn.Conv2d(3, 4, 3, padding=1, stride=stride, padding_mode="circular")
    theirs.load_state_dict(ours.state_dict())
    image = torch.randn(1, 3, 8, 6)
    plain = ours(image)
    with wrapped(torch.nn.Sequential(ours), (True, True)):
        assert torch.allclose(ours(image), theirs(image), atol=1e-6)
    with wrapped(torch.nn.Sequential(ours), (True, False)):
        half = ours(image)
    assert torch.allclose(half[..., 1:-1, :], theirs(image)[..., 1 : half.shape[-2] - 1, :], atol=1e-6)
    assert torch.allclose(half[..., 1 : half.shape[-1] - 1], plain[..., 1 : half.shape[-1] - 1], atol=1e-6)
    assert torch.equal(ours(image), plain)
