"""Tiles that overlap and are blended (MultiDiffusion, arXiv 2302.08113): pictures of any size in bounded memory.

Tiles of one size are spread evenly, so that none is a sliver. The weight of a tile falls towards each of its borders
that another tile crosses, over all of the overlap, and the weights at every place sum to one. Sums are made in one
order, whatever the order of work.

Shapes: N rows, C channels, H W what goes in, h w what comes out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from .wrap import NONE, Wrap, pad

Span = tuple[int, Tensor]
"""Where a tile begins along an axis, and its weights there."""


@dataclass(frozen=True)
class Tiles:
    """Tiles of latents, in places: their side and the least overlap of neighbours. Along an axis that wraps they go
    round."""

    side: int
    overlap: int
    wrap: Wrap = NONE
    shift: float = 0.0
    """How far tiles within the picture are moved, as a share of the way to the next: 0 to 1."""

    def starts(self, length: int, wraps: bool) -> list[int]:
        """Where tiles begin along an axis; one alone covers what is no longer than a tile."""
        if length <= self.side:
            return [0]
        stride = self.side - self.overlap
        if wraps:
            count = -(-length // stride)
            return [(length * k + int(length * self.shift)) // count % length for k in range(count)]
        last = length - self.side
        count = -(-last // stride)
        inside = {int(last * (k + self.shift) / count) for k in range(count)}
        return sorted({0, *inside, last})

    def spans(self, length: int, wraps: bool, factor: int = 1) -> list[Span]:
        """The tiles along an axis, with weights of `factor` values a place (float32)."""
        starts, side = self.starts(length, wraps), min(self.side, length)
        if len(starts) == 1:
            return [(0, torch.ones(side * factor))]
        raw: list[Tensor] = []
        for k, start in enumerate(starts):
            before = side - (start - starts[k - 1]) % length if k or wraps else 0
            after = side - (starts[(k + 1) % len(starts)] - start) % length if k + 1 < len(starts) or wraps else 0
            raw.append(_rise(side * factor, before * factor) * _rise(side * factor, after * factor).flip(0))
        total = torch.zeros(length * factor, dtype=torch.float64)
        places = [torch.arange(start * factor, (start + side) * factor) % len(total) for start in starts]
        for place, weights in zip(places, raw, strict=True):
            total[place] += weights
        return [(s, (w / total[p]).float()) for s, p, w in zip(starts, places, raw, strict=True)]

    def count(self, height: int, width: int) -> int:
        return len(self.starts(height, self.wrap[1])) * len(self.starts(width, self.wrap[0]))


def _rise(length: int, over: int) -> Tensor:
    """Weights from near 0 to 1 over the first `over` places, then 1; never 0."""
    steps = (torch.arange(length, dtype=torch.float64) + 0.5) / max(over, 1)
    return torch.sin(steps.clamp(max=1.0) * (torch.pi / 2)) ** 2 if over else torch.ones(length, dtype=torch.float64)


def blended(
    work: Callable[[Tensor], Tensor], x_NCHW: Tensor, tiles: Tiles, before: int = 1, after: int = 1, together: int = 1
) -> Tensor:
    """work(x) from tiles. A place of `tiles` is `before` values of x along an axis, and `after` of the result.

    `work` gets the N rows of `together` tiles at a time, one tile after the other; short ones are padded, so that it
    sees one shape.
    """
    height, width = (side // before for side in x_NCHW.shape[-2:])
    if tiles.count(height, width) == 1:
        return work(x_NCHW)
    wrap_x, wrap_y = tiles.wrap
    rows, columns = tiles.spans(height, wrap_y, after), tiles.spans(width, wrap_x, after)
    # Tiles that go over the edge see the other one: what they add there is brought back at the end.
    beyond_y, beyond_x = (tiles.side if wraps and len(s) > 1 else 0 for wraps, s in ((wrap_y, rows), (wrap_x, columns)))
    x_NCHW = pad(x_NCHW, (0, beyond_x * before, 0, beyond_y * before), (True, True))
    high, wide = min(tiles.side, height), min(tiles.side, width)
    total: Tensor | None = None
    for group in _groups([(row, column) for row in rows for column in columns], together):
        parts = [_part(x_NCHW, row[0], high, column[0], wide, before) for row, column in group]
        parts += parts[:1] * (together - len(parts))
        outs = torch.split(work(torch.cat(parts)), len(x_NCHW))
        for (row, column), out in zip(group, outs, strict=False):
            if total is None:
                total = out.new_zeros(
                    *out.shape[:2], (height + beyond_y) * after, (width + beyond_x) * after, dtype=torch.float32
                )
            weight_hw = (row[1][:, None] * column[1][None, :]).to(out.device)
            _part(total, row[0], high, column[0], wide, after).add_(out.float() * weight_hw)
    assert total is not None
    total[..., : beyond_y * after, :] += total[..., height * after :, :]
    total[..., : beyond_x * after] += total[..., width * after :]
    return total[..., : height * after, : width * after].to(x_NCHW.dtype).contiguous()


def _part(x_NCHW: Tensor, top: int, high: int, left: int, wide: int, factor: int) -> Tensor:
    return x_NCHW[..., top * factor : (top + high) * factor, left * factor : (left + wide) * factor]


def _groups(boxes: list[tuple[Span, Span]], size: int) -> Iterator[list[tuple[Span, Span]]]:
    for begin in range(0, len(boxes), size):
        yield boxes[begin : begin + size]
