"""What a track leaves out of the exact computation, where it is asked to: pictures are near the exact ones then.

Whether a step is shortened, and by what, depends on its track alone, and never on what else is in the batch.

B pictures of a track, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..options import Edit
from ..options.speed import interval_of
from .conditioning import Conditioning


@dataclass(frozen=True)
class Shortcuts:
    """`interval`: the part of the schedule within which steps are guided (arXiv 2404.07724), 0 noise and 1 the picture;
    `every`: deep features of the UNet are computed once in so many steps (arXiv 2312.00858)."""

    interval: tuple[float, float] = (0.0, 1.0)
    every: int = 1

    def guides(self, index: int, length: int) -> bool:
        """Whether the step at a node of a grid of that length is guided, where its track is."""
        first, last = self.interval
        return first <= index / length < last


NONE = Shortcuts()


def shortcuts_of(edit: Edit) -> Shortcuts:
    """Those that an edit asks for."""
    interval = interval_of(edit.cfg_interval) if edit.cfg_interval else NONE.interval
    return Shortcuts(interval, edit.cache_features or NONE.every)


@dataclass(frozen=True, eq=False)
class DeepRows:
    """Deep features of a track's pictures, computed under a conditioning at its step `made_at`.

    `negative_BCHW` are those without the prompt, None of a step that was not guided.
    """

    positive_BCHW: Tensor
    negative_BCHW: Tensor | None
    conditioning: Conditioning
    made_at: int

    def serves(self, step: int, every: int, conditioning: Conditioning, guided: bool) -> bool:
        """Whether a step can take them."""
        has_rows = self.negative_BCHW is not None or not guided
        return step - self.made_at < every and self.conditioning is conditioning and has_rows


def gathered(negative: Sequence[DeepRows], positive: Sequence[DeepRows]) -> list[Tensor]:
    """The rows of a batch, the negative ones first."""
    lows = [rows.negative_BCHW for rows in negative if rows.negative_BCHW is not None]
    assert len(lows) == len(negative), "they serve a guided step"
    return [*lows, *(rows.positive_BCHW for rows in positive)]


def taken_apart(rows: Tensor, counts: Sequence[int]) -> list[Tensor]:
    """Rows of a batch as so many for each, those behind them left out."""
    return list(torch.split(rows[: sum(counts)], list(counts)))
