"""The transparency of an edited picture found anew: what of it is not the plain ground that the model was shown it on.

A pixel of the picture, E, is F over the ground G: E = a F + (1 - a) G. The outside is what looks like the ground and is
joined to where the input was clear; F is known well inside of the rest, and is spread from there; a follows. Where the
model changed nothing, both stay as they were.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from .transparency import WHITE, Colour, seen

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from PIL import Image

    from .codec import Picture

    Flags = np.ndarray[Any, Any]

PAINTED_OVER = "the model painted over the ground around it, so that hardly anything is clear; a lower --strength helps"
_HARDLY = 0.1
# In the order in which models draw on them best.
_GROUNDS: tuple[Colour, ...] = (WHITE, (128, 128, 128), (0, 0, 0))
# How far from the ground a colour has to be to be told from it, and which share of a picture may be nearer.
_NEAR, _FEW = 24, 0.25
# Edges are softer than a pixel on each side: the autoencoder sees to that.
_SOFT = 2
# What is nearly opaque is opaque, and what nearly clear is clear.
_OPAQUE, _LEAST = 230, 0.1
# A pixel as opaque as this share of what is around it is none of a soft edge.
_PLATEAU = 0.9
_MOST_SWEEPS = 256


def on_ground(picture: Picture, background: Colour | None) -> Picture:
    """The picture as the model is shown it where its transparency is edited: on `background`, or on the ground that its
    own colours are told from; of an animation all frames on one."""
    ground = background or _ground(picture)
    return picture.each(lambda one: _on(ground, one))


def _on(ground: Colour, picture: Picture) -> Picture:
    if picture.alpha is None:
        return picture
    own = picture.colours or picture.rgb
    return replace(picture, rgb=seen(own, picture.alpha, ground), ground=ground, colours=own)


def _ground(picture: Picture) -> Colour:
    import numpy as np

    if picture.alpha is None:
        return WHITE
    visible = np.asarray(picture.colours or picture.rgb)[np.asarray(picture.alpha) > 127].astype(int)
    if not len(visible):
        return WHITE
    shares = [float((np.abs(visible - ground).max(-1) < 2 * _NEAR).mean()) for ground in _GROUNDS]
    near = [share if share > _FEW else 0.0 for share in shares]
    return _GROUNDS[near.index(min(near))]


def on_its_ground(picture: Picture) -> Image.Image:
    """A picture with transparency on its ground."""
    assert picture.alpha is not None
    return seen(picture.colours or picture.rgb, picture.alpha, picture.ground)


def cut_out(picture: Picture, images: Sequence[Image.Image]) -> tuple[Picture, list[Image.Image]]:
    """A picture with the transparency that it has after its edit (one image a frame), and the images for that."""
    frames = zip(images, picture.frames, strict=True)
    found = [matted(image, of) if of.alpha else (image, None) for image, of in frames]
    after = tuple(replace(of, alpha=alpha) for of, (_, alpha) in zip(picture.frames, found, strict=True))
    film = picture.film and replace(picture.film, frames=after)
    return replace(picture, alpha=after[0].alpha, film=film), [image for image, _ in found]


def is_painted_over(before: Picture, after: Picture) -> bool:
    """Whether an edit left hardly anything clear of what was."""
    import numpy as np

    clear = np.asarray(before.alpha) == 0
    return bool(clear.any()) and bool((np.asarray(after.alpha)[clear] == 0).mean() < _HARDLY)


def matted(edited: Image.Image, picture: Picture) -> tuple[Image.Image, Image.Image]:
    """The colours and the alpha of a picture that was edited on its ground, which has transparency."""
    import numpy as np
    from PIL import Image

    assert picture.alpha is not None
    before, opacity = np.asarray(picture.alpha), _opacity(picture.alpha)
    after = np.asarray(edited).astype(np.float32)
    ground = _tinted(after[before == 0], np.asarray(picture.ground, np.float32))
    free = np.abs(after - ground).max(-1) < _NEAR
    outside = _joined(free, (before == 0) & free)
    inside = ~_widened(outside, _SOFT)
    full = after
    if inside.any():
        full = np.asarray(seen(edited, Image.fromarray(np.where(inside, 255, 0).astype(np.uint8)), None), np.float32)
    share = _shares(after, full, ground)
    # What is thinner than its edges are soft is known by nothing else than that it is no ground.
    share[inside | ~(outside | _widened(inside, 2 * _SOFT + 1))] = 1
    share[outside & (share < _LEAST)] = 0
    alpha = np.rint(share * opacity)
    # What was seen through the picture is taken out of its colours.
    clearness = np.maximum(opacity, 1)[..., None] / 255
    colours = np.clip(np.where(inside[..., None], after, full) / clearness - ground * (1 / clearness - 1), 0, 255)
    same = (np.asarray(edited) == np.asarray(on_its_ground(picture))).all(-1)
    alpha = np.where(same, before, alpha).astype(np.uint8)
    own = np.asarray(picture.colours or picture.rgb)
    return Image.fromarray(np.where(same[..., None], own, np.rint(colours)).astype(np.uint8)), Image.fromarray(alpha)


def _tinted(clear: Any, ground: Any) -> Any:
    """The ground as the model left it, by what is there where the picture was clear; as it was where that is gone."""
    import numpy as np

    if not len(clear):
        return ground
    found = np.median(clear, axis=0)
    return found if np.abs(found - ground).max() < _NEAR else ground


def _shares(after: Any, full: Any, ground: Any) -> Any:
    """How much of each pixel is the picture's, the rest being ground."""
    import numpy as np

    way = full - ground
    length = (way * way).sum(-1)
    return np.clip(((after - ground) * way).sum(-1) / np.maximum(length, 1), 0, 1)


def _opacity(alpha: Image.Image) -> npt.NDArray[np.float32]:
    """How opaque the things in a picture are, which glass is not: without their soft edges, and spread around them."""
    import numpy as np
    from PIL import Image, ImageFilter

    own, around = (np.asarray(one, np.float32) for one in (alpha, alpha.filter(ImageFilter.MaxFilter(2 * _SOFT + 1))))
    known = Image.fromarray(np.where((own > 0) & (own > _PLATEAU * around), 255, 0).astype(np.uint8))
    spread = np.asarray(seen(Image.merge("RGB", [alpha] * 3), known, None).getchannel("R"), np.float32)
    return np.where(spread >= _OPAQUE, np.float32(255), spread)


def _widened(flags: Flags, by: int) -> Flags:
    """What is flagged, and all within so many pixels of it (a square)."""
    import numpy as np

    for axis in (0, 1):
        for _ in range(by):
            wide = np.pad(flags, [(1, 1) if axis == at else (0, 0) for at in (0, 1)])
            first, last = (slice(None, -2), slice(2, None))
            flags = flags | (wide[first] | wide[last] if axis == 0 else wide[:, first] | wide[:, last])
    return flags


def _joined(free: Any, seeds: Any) -> Any:
    """What is free and joined to a seed by way of others: runs of rows, then of columns, until nothing changes."""
    found = seeds & free
    for _ in range(_MOST_SWEEPS):
        wider = _runs(_runs(found, free).T, free.T).T
        if (wider == found).all():
            break
        found = wider
    return found


def _runs(found: Any, free: Any) -> Any:
    """Every run of a row that has a flag, as a whole."""
    import numpy as np

    begins = free.copy()
    begins[:, 1:] &= ~free[:, :-1]
    names = begins.astype(np.int64).cumsum().reshape(free.shape)
    flagged = np.bincount(names[found], minlength=int(names[-1, -1]) + 1) > 0
    return flagged[names] & free
