"""Transparency: taken off before colours are looked at, and what the model sees where a picture shows nothing."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

from .fine import GRAY, LOWER, RGB, decoded_as

if TYPE_CHECKING:
    from PIL import Image

    from .containers import Parts

Colour = tuple[int, int, int]
WHITE: Colour = (255, 255, 255)
_EXTRA_SAMPLES, _TARGA_DESCRIPTOR = 338, 17


def split(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """The colours (in mode L, RGB or as they are) and the alpha (mode L), None for an opaque picture."""
    if not image.has_transparency_data:
        return (image.convert("RGB") if image.mode in ("P", "RGBX") else image), None
    whole = image if image.mode in ("LA", "RGBA") else image.convert("LA" if image.mode == "La" else "RGBA")
    colours = whole.convert("L") if whole.mode == "LA" else whole.convert("RGB")
    return colours, whole.getchannel("A")


def declared(image: Image.Image, data: bytes) -> bool:
    """Whether the file says that its fourth channel is transparency. In some formats it may be just padding."""
    tags: Any = getattr(image, "tag_v2", None)
    if tags is not None:
        return bool({1, 2} & set(tags.get(_EXTRA_SAMPLES, ())))
    if image.format == "TGA":
        return data[_TARGA_DESCRIPTOR] & 15 > 0
    return image.format not in ("BMP", "DIB")


def png_key(image: Image.Image, parts: Parts) -> Image.Image | None:
    """The alpha of a gray or RGB PNG in which one colour is transparent, compared in the depth of the file.

    `image` is decoded. None when the file has no such colour.
    """
    import numpy as np
    from PIL import Image

    data, key = parts.pixels, parts.colour_key
    bits, kind = data[24], data[25]
    if kind not in (GRAY, RGB) or len(key) < (2 if kind == GRAY else 6):
        return None
    image.info.pop("transparency", None)
    numbers = struct.unpack(">H" if kind == GRAY else ">3H", key[: 2 + 2 * kind])
    wanted = [value & ((1 << bits) - 1) for value in numbers]
    values = np.asarray(image.convert("L") if image.mode == "1" else image)
    if bits < 8:
        wanted = [value * 255 // ((1 << bits) - 1) for value in wanted]
    if bits == 16 and kind == RGB:
        lower = np.asarray(decoded_as(data, LOWER[RGB]))
        same = (values == [value >> 8 for value in wanted]) & (lower == [value & 255 for value in wanted])
        hidden = same.all(-1)
    else:
        hidden = values == wanted[0] if kind == GRAY else (values == wanted).all(-1)
    return Image.fromarray(np.where(hidden, 0, 255).astype(np.uint8))


def seen(rgb: Image.Image, alpha: Image.Image, background: Colour | None) -> Image.Image:
    """What the model is shown: the picture on `background`, or over its own edge colours, spread out."""
    from PIL import Image

    if background is not None:
        return Image.composite(rgb, Image.new("RGB", rgb.size, background), alpha)
    return _spread(rgb, alpha)


def _spread(rgb: Image.Image, alpha: Image.Image) -> Image.Image:
    """Colours run out under the transparency: each pixel shows itself by its alpha, and else what is around it.

    What is around comes from halved pictures, in which a colour weighs as much as it is visible: the first that
    shows anything there is what counts. An opaque pixel stays as it is.
    """
    from PIL import Image

    levels: list[tuple[Image.Image, Image.Image]] = [(rgb, alpha)]
    while _extremes(alpha)[0] < 255 and max(rgb.size) > 1:
        whole = rgb.copy()
        whole.putalpha(alpha)
        # Averaged with colours weighed by alpha; a corner that shows makes its whole block show.
        small = whole.convert("RGBa").reduce(2).convert("RGBA")
        rgb, alpha = small.convert("RGB"), small.getchannel("A").point([min(255, 4 * value) for value in range(256)])
        levels.append((rgb, alpha))
    colours, shows = levels.pop()
    # Where nothing shows at all, there is no colour to spread.
    around = colours if _extremes(shows)[1] else Image.new("RGB", colours.size, WHITE)
    for colours, shows in reversed(levels):
        width, height = colours.size
        grown = around.resize(colours.size, Image.Resampling.BILINEAR, box=(0, 0, width / 2, height / 2))
        around = Image.composite(colours, grown, shows)
    return around


def _extremes(alpha: Image.Image) -> tuple[int, int]:
    extremes: Any = alpha.getextrema()
    return extremes
