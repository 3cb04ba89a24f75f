"""Large pictures through an autoencoder in pieces: row by row of the batch (slicing), tile by tile (tiling).

Tiles overlap, and the overlap fades linearly from one to the next. The result is near to that of the whole picture
and not equal to it, as each tile sees only its own surroundings.

Shapes: B rows, C channels, H W what goes in, h w what comes out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction

import torch
from torch import Tensor

from .tiles import Tiles, blended

Work = Callable[[Tensor], Tensor]
Tiler = Callable[[Work, Tensor, int, Fraction], Tensor]


@dataclass(frozen=True)
class Pieces:
    """How an autoencoder cuts its work; put another value into the model's `pieces` to change it, this one to undo.

    `tiling` is the reference's way; `tiles` are of latents, blended as those of a tiled edit, and come first.
    """

    slicing: bool = False
    tiling: bool = False
    tiles: Tiles | None = None

    def run(self, work: Work, x_BCHW: Tensor, tiler: Tiler, tile: int, scale: Fraction) -> Tensor:
        """work(x), in pieces. `tile`: the side of a tile of `x`; `scale`: how a side grows from `x` to the result."""

        def one(part: Tensor) -> Tensor:
            if self.tiles is not None:
                return blended(work, part, self.tiles, scale.denominator, scale.numerator)
            return tiler(work, part, tile, scale) if self.tiling else work(part)

        if self.slicing and len(x_BCHW) > 1:
            return torch.cat([one(row) for row in torch.split(x_BCHW, 1)])
        return one(x_BCHW)


class InPieces:
    """The switches of the reference's autoencoders."""

    pieces: Pieces

    def enable_slicing(self) -> None:
        """Pictures of a batch are worked on one by one."""
        self.pieces = replace(self.pieces, slicing=True)

    def disable_slicing(self) -> None:
        self.pieces = replace(self.pieces, slicing=False)

    def enable_tiling(self, use_tiling: bool = True) -> None:
        """Large pictures are worked on in overlapping tiles: far less memory, slightly other pixels."""
        self.pieces = replace(self.pieces, tiling=use_tiling)

    def disable_tiling(self) -> None:
        self.enable_tiling(False)


def crossfaded(work: Work, x_BCHW: Tensor, tile: int, scale: Fraction) -> Tensor:
    """Tiles that overlap by a quarter; each fades in over its upper and left neighbours, which end where it is full."""
    height, width = x_BCHW.shape[-2:]
    if height <= tile and width <= tile:
        return work(x_BCHW)
    out_tile = int(tile * scale)
    stride, fade = int(tile * 0.75), int(out_tile * 0.25)
    keep = out_tile - fade
    above: list[Tensor] = []
    bands: list[Tensor] = []
    for top in range(0, height, stride):
        row: list[Tensor] = []
        for left in range(0, width, stride):
            piece = work(x_BCHW[..., top : top + tile, left : left + tile])
            if above:
                piece = fade_in(above[len(row)], piece, fade, dim=-2)
            if row:
                piece = fade_in(row[-1], piece, fade, dim=-1)
            row.append(piece)
        bands.append(torch.cat([piece[..., :keep, :keep] for piece in row], dim=-1))
        above = row
    return torch.cat(bands, dim=-2)


def fade_in(before: Tensor, after: Tensor, extent: int, dim: int) -> Tensor:
    """`after`, its first `extent` places mixed from the last ones of `before` into its own."""
    extent = min(before.shape[dim], after.shape[dim], extent)
    weight = torch.arange(extent, dtype=torch.float64) / max(extent, 1)
    weight = weight.view(-1, 1) if dim == -2 else weight
    old = before.narrow(dim, before.shape[dim] - extent, extent) * (1 - weight).to(before)
    new = after.narrow(dim, 0, extent) * weight.to(after)
    return torch.cat([old + new, after.narrow(dim, extent, after.shape[dim] - extent)], dim)


def painted(work: Work, x_BCHW: Tensor, tile: int, scale: Fraction) -> Tensor:
    """Tiles that overlap by an eighth, each painted over the ones before through a mask that fades in at its upper
    and left edge: the tiny autoencoder's way."""
    height, width = x_BCHW.shape[-2:]
    overlap = int(tile * 0.125)
    side, fade = int(tile * scale), overlap * scale
    ramp = (torch.arange(side, device=x_BCHW.device) / float(max(fade - 1, 1))).clamp(0, 1)
    full = torch.ones_like(ramp)
    canvas: Tensor | None = None
    for top in range(0, height, tile - overlap):
        for left in range(0, width, tile - overlap):
            piece = work(x_BCHW[..., top : top + tile, left : left + tile])
            if canvas is None:
                canvas = x_BCHW.new_zeros(*piece.shape[:2], int(height * scale), int(width * scale))
            h, w = piece.shape[-2:]
            mask = ((ramp if top else full)[:h, None] * (ramp if left else full)[None, :w]).to(piece)
            area = canvas[..., int(top * scale) :, int(left * scale) :][..., :h, :w]
            area.copy_(mask * piece + (1 - mask) * area)
    assert canvas is not None
    return canvas
