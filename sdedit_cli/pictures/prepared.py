"""An input as an edit takes it: read, its transparency and colours brought to what was asked for, in its size."""

from __future__ import annotations

from dataclasses import replace

from ..errors import shortened
from ..options import Edit, rgb_of
from ..options.files import ALL, DROP, EDIT
from ..options.masks import ALPHA
from .codec import Picture, read_picture
from .film import read_film
from .masks import with_mask
from .matting import on_ground
from .profiles import in_srgb
from .resize import sized
from .source import STDIN
from .strokes import with_strokes


def prepared(source: str, limit: float, edit: Edit) -> Picture:
    """The picture in a file ('-': stdin) of at most `limit` megapixels, as `edit` takes it. Raises PictureError."""
    background = rgb_of(edit.background) if edit.background else None
    picture = (read_film if edit.frames == ALL else read_picture)(source, limit, background)
    if edit.mask is not None:
        picture = _masked(picture, edit, source, limit)
    if edit.alpha == DROP:
        picture = picture.each(opaque)
    if edit.to_srgb:
        picture = picture.each(as_srgb)
    picture = sized(picture, edit, "stdin" if source == STDIN else shortened(source), limit)
    if edit.alpha == EDIT:
        picture = on_ground(picture, background)
    return picture if edit.strokes is None else picture.each(lambda one: with_strokes(one, edit))


def _masked(picture: Picture, edit: Edit, source: str, limit: float) -> Picture:
    """The picture with its mask, and every frame; a file of one is read once for all of them."""
    if edit.mask == ALPHA or picture.film is None:
        return picture.each(lambda one: with_mask(one, edit, source, limit))
    whole = with_mask(picture, edit, source, limit)
    frames = (replace(one, mask=whole.mask, mask_sha256=whole.mask_sha256) for one in picture.film.frames)
    return replace(whole, film=replace(picture.film, frames=tuple(frames)))


def opaque(picture: Picture) -> Picture:
    """The picture without transparency, on the ground that it stands on."""
    from PIL import Image

    if picture.alpha is None:
        return picture
    ground = Image.new("RGB", picture.rgb.size, picture.ground)
    return replace(picture, rgb=Image.composite(picture.rgb, ground, picture.alpha), alpha=None, colours=None)


def as_srgb(picture: Picture) -> Picture:
    """The picture in sRGB, which needs no profile; a profile that cannot be used is left out, and a note says so."""
    if picture.icc is None:
        return picture
    converted = in_srgb(picture.rgb, picture.icc)
    if converted is None:
        note = "its colour profile cannot be used and is left out"
        return replace(picture, icc=None, notes=(*picture.notes, note))
    colours = picture.colours and in_srgb(picture.colours, picture.icc)
    return replace(picture, rgb=converted, icc=None, colours=colours, fine=None)
