"""A picture in another size."""

from __future__ import annotations

from dataclasses import replace

from .codec import Picture


def resized(picture: Picture, size: tuple[int, int]) -> Picture:
    """The picture and its transparency in this size (width, height); itself when it has it."""
    if picture.rgb.size == size:
        return picture
    from PIL import Image

    how = Image.Resampling.LANCZOS
    alpha = picture.alpha.resize(size, how) if picture.alpha else None
    film = picture.film and replace(picture.film, frames=tuple(resized(one, size) for one in picture.film.frames))
    return replace(picture, film=film, rgb=picture.rgb.resize(size, how), alpha=alpha)
