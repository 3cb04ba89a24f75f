"""Token merging (arXiv 2303.17604): self-attention sees tokens that are nearly equal as one.

Of every square of 2 x 2 positions the first is a target; the others are sources. Each source belongs to the target that
it is most like; a share of all tokens, the sources that are most like theirs, is averaged into them before attention,
and gets what they got after it. The paper draws the target of each square; here the choice is always the same, so that
equal pictures come of equal ones.

Shapes: B rows, T tokens (H W positions), D targets, S sources, M merged sources, K kept ones, C channels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

_SPAN = 1 << 24  # similarities that are held at a time


@dataclass(frozen=True)
class Merging:
    """The share of tokens that is merged, where attention looks at positions of latents of this `size` (H, W): the
    finest level. Coarser ones gain little and lose more."""

    ratio: float
    size: tuple[int, int] = (0, 0)

    def over(self, height: int, width: int) -> Merging:
        """The same for latents of that size."""
        return replace(self, size=(height, width))

    def around(self, x_BTC: Tensor, work: Callable[[Tensor], Tensor]) -> Tensor:
        """work(x) for all tokens, of which `work` sees the merged ones alone; all of them on coarser levels."""
        height, width = self.size
        if x_BTC.shape[1] != height * width or min(height, width) < 2:
            return work(x_BTC)
        merged = _Merged.of(x_BTC, height, width, self.ratio)
        return merged.apart(work(merged.together(x_BTC)))


@dataclass(frozen=True)
class _Merged:
    """Where tokens stand while they are merged: the kept sources, then the targets."""

    kept_BK: Tensor
    targets_D: Tensor
    merged_BM: Tensor
    into_BM: Tensor
    """Of each merged source, the number of its target."""

    @classmethod
    def of(cls, x_BTC: Tensor, height: int, width: int, ratio: float) -> _Merged:
        targets_D, sources_S = _places(height, width, x_BTC.device)
        unit_BTC = F.normalize(x_BTC, dim=-1)
        unit_BDC = unit_BTC[:, targets_D]
        step = max(1, _SPAN // max(1, len(x_BTC) * len(targets_D)))
        best = [(unit_BTC[:, piece] @ unit_BDC.transpose(1, 2)).max(dim=-1) for piece in torch.split(sources_S, step)]
        likeness_BS = torch.cat([values for values, _ in best], dim=1)
        nearest_BS = torch.cat([indices for _, indices in best], dim=1)
        count = min(len(sources_S), int(height * width * ratio))
        order_BS = likeness_BS.argsort(dim=1, descending=True, stable=True)
        merged, kept = order_BS[:, :count], order_BS[:, count:]
        return cls(sources_S[kept], targets_D, sources_S[merged], nearest_BS.gather(1, merged))

    def together(self, x_BTC: Tensor) -> Tensor:
        """[B, K + D, C]: kept sources, and the mean of each target and what is merged into it."""
        numbers_D = torch.arange(len(self.targets_D), device=x_BTC.device)
        into_BMD = (self.into_BM.unsqueeze(-1) == numbers_D).to(x_BTC.dtype)
        # A product, as sums by index have another order each time on some devices.
        sums_BDC = x_BTC[:, self.targets_D] + into_BMD.transpose(1, 2) @ _taken(x_BTC, self.merged_BM)
        counts_BD1 = 1 + into_BMD.sum(dim=1).unsqueeze(-1)
        return torch.cat([_taken(x_BTC, self.kept_BK), sums_BDC / counts_BD1], dim=1)

    def apart(self, y_BPC: Tensor) -> Tensor:
        """[B, T, C]: every token what its place got."""
        kept, rows = self.kept_BK.shape[1], len(y_BPC)
        total = kept + len(self.targets_D) + self.merged_BM.shape[1]
        place_BT = torch.empty(rows, total, dtype=torch.long, device=y_BPC.device)
        place_BT[:, self.targets_D] = kept + torch.arange(len(self.targets_D), device=y_BPC.device)
        place_BT.scatter_(1, self.kept_BK, torch.arange(kept, device=y_BPC.device).expand(rows, -1))
        place_BT.scatter_(1, self.merged_BM, kept + self.into_BM)
        return _taken(y_BPC, place_BT)


def _taken(x_BTC: Tensor, places_BP: Tensor) -> Tensor:
    return x_BTC.gather(1, places_BP.unsqueeze(-1).expand(-1, -1, x_BTC.shape[-1]))


@lru_cache(maxsize=16)
def _places(height: int, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """The positions of the targets and of the sources, both rising; on a device once, as captured steps cannot wait."""
    is_target = torch.zeros(height, width, dtype=torch.bool)
    is_target[: height // 2 * 2 : 2, : width // 2 * 2 : 2] = True
    targets_D, sources_S = (places.flatten().nonzero().flatten() for places in (is_target, ~is_target))
    return targets_D.to(device), sources_S.to(device)
