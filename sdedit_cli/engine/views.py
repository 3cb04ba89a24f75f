"""What networks see of a picture at a time: all of it, or tiles; and whether its edges meet.

N rows of a batch, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from torch import Tensor

from ..nn import Tiles, UNet2DCondition, Wrap, blended, wrapped
from ..options import Edit, tile_of
from .components import VAE

# So many small tiles go through a network at once, until they have the area of a picture that keeps it busy.
_MOST, _ENOUGH = 8, 64 * 64
# The autoencoder normalises by what it sees: in smaller tiles an even area gets a tint of its own in each.
_LEAST_OF_AUTOENCODER = 64
_SHIFTS = (0.0, 0.5, 0.25, 0.75)


@dataclass(frozen=True)
class Views:
    """Tiles of latents for the UNet, or None; larger ones for the autoencoder; the axes along which the picture
    wraps. Along an axis that is cut, tiles go round; along another one the network itself wraps."""

    tiles: Tiles | None = None
    coarse: Tiles | None = None
    wrap: Wrap = (False, False)

    def at(self, step: int) -> Views:
        """The views of a step: tiles are moved from one to the next, so that no border stays where it was."""
        if self.tiles is None:
            return self
        return replace(self, tiles=replace(self.tiles, shift=_SHIFTS[step % len(_SHIFTS)]))

    def together(self) -> int:
        """How many tiles the UNet gets at a time."""
        return max(1, min(_MOST, _ENOUGH // self.tiles.side**2)) if self.tiles else 1

    def predict(self, unet: UNet2DCondition, work: Callable[[Tensor], Tensor], x_NCHW: Tensor) -> Tensor:
        """The model output for latents. `work` gets the N rows of `together` tiles at a time."""
        height, width = x_NCHW.shape[-2:]
        with wrapped(unet, _uncut(self.tiles, self.wrap, height, width)):
            if self.tiles is None:
                return work(x_NCHW)
            return blended(work, x_NCHW, self.tiles, together=self.together())

    @contextmanager
    def through(self, vae: VAE, height: int, width: int) -> Generator[None]:
        """Has an autoencoder see latents of that size in the same way, until the end of the block."""
        pieces = vae.pieces
        vae.pieces = replace(pieces, tiles=self.coarse) if self.coarse else pieces
        try:
            with wrapped(vae, _uncut(self.coarse, self.wrap, height, width)):
                yield
        finally:
            vae.pieces = pieces


WHOLE = Views()


def views_of(edit: Edit, scale: int, height: int, width: int) -> Views:
    """The views that an edit asks for of latents of this size, `scale` times smaller than the picture."""
    wrap = wrap_of(edit)
    if edit.tile is None:
        return Views(wrap=wrap)
    side, overlap = (length // scale for length in tile_of(edit.tile))
    fine = Tiles(max(2, side), max(1, overlap), wrap)
    least = _LEAST_OF_AUTOENCODER
    coarse = fine if side >= least else Tiles(least, least // 4, wrap)
    fine, coarse = (tiles if tiles.count(height, width) > 1 else None for tiles in (fine, coarse))
    return Views(fine, coarse, wrap)


def wrap_of(edit: Edit) -> Wrap:
    """The axes along which the edges of an edit's picture meet."""
    return "x" in (edit.seamless or ""), "y" in (edit.seamless or "")


def _uncut(tiles: Tiles | None, wrap: Wrap, height: int, width: int) -> Wrap:
    """Those of the axes that no tiles cut."""
    side = tiles.side if tiles else max(height, width)
    return wrap[0] and width <= side, wrap[1] and height <= side
