"""Token merging, held against the method written out token by token."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sdedit_cli.nn import Merging


def merged(x_TC: Tensor, height: int, width: int, ratio: float) -> tuple[list[list[int]], list[int]]:
    """Groups of tokens that are seen as one, the target's last in each; and the group of every token."""
    places = [(y, x) for y in range(height) for x in range(width)]
    whole = (height // 2 * 2, width // 2 * 2)
    targets = [i for i, (y, x) in enumerate(places) if y % 2 == x % 2 == 0 and y < whole[0] and x < whole[1]]
    sources = [i for i in range(len(places)) if i not in targets]
    unit = x_TC / x_TC.norm(dim=1, keepdim=True)
    best = {i: max((float(unit[i] @ unit[j]), -j) for j in targets) for i in sources}
    chosen = sorted(sources, key=lambda i: (-best[i][0], i))[: int(len(places) * ratio)]
    groups = [[i] for i in sources if i not in chosen]
    groups += [[*(i for i in chosen if -best[i][1] == j), j] for j in targets]
    return groups, [next(n for n, group in enumerate(groups) if i in group) for i in range(len(places))]


@pytest.mark.parametrize(("height", "width"), [(4, 4), (5, 7), (2, 9), (8, 6)])
@pytest.mark.parametrize("ratio", [0.1, 0.5, 0.7])
def test_what_attention_sees_is_the_mean_of_each_group_and_every_token_gets_its_groups(
    height: int, width: int, ratio: float
) -> None:
    x_BTC = torch.randn(2, height * width, 8, generator=torch.Generator().manual_seed(height * width))
    seen: list[Tensor] = []

    def work(y_BPC: Tensor) -> Tensor:
        seen.append(y_BPC)
        return 3 * y_BPC + 1

    got_BTC = Merging(ratio).over(height, width).around(x_BTC, work)
    for x_TC, y_PC, got_TC in zip(x_BTC, seen[0], got_BTC, strict=True):
        groups, group_of = merged(x_TC, height, width, ratio)
        assert len(y_PC) == len(groups) == height * width - min(int(height * width * ratio), _sources(height, width))
        means = torch.stack([x_TC[group].mean(dim=0) for group in groups])
        torch.testing.assert_close(got_TC, (3 * means + 1)[group_of])


def _sources(height: int, width: int) -> int:
    return height * width - (height // 2) * (width // 2)


def test_coarser_levels_see_every_token() -> None:
    x_BTC = torch.randn(1, 16, 8)
    assert Merging(0.5).over(8, 8).around(x_BTC, lambda y: y) is x_BTC
    assert Merging(0.5).over(1, 16).around(x_BTC, lambda y: y) is x_BTC


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_equal_tokens_are_merged_in_one_order_and_a_row_does_not_feel_another(dtype: torch.dtype) -> None:
    x_BTC = torch.ones(3, 64, 8, dtype=dtype)
    x_BTC[1] = torch.randn(64, 8, generator=torch.Generator().manual_seed(0)).to(dtype)
    merging = Merging(0.5).over(8, 8)
    once = merging.around(x_BTC, lambda y: 2 * y)
    assert torch.equal(once, merging.around(x_BTC, lambda y: 2 * y))
    assert torch.equal(once[0], once[2])
    alone = merging.around(x_BTC[1:2].expand(3, -1, -1), lambda y: 2 * y)
    assert torch.equal(alone[0], once[1])
