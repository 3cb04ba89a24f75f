"""TIFFs that Pillow does not read: deep or floating-point colours, deep gray with alpha, half precision.

tifffile reads them; it is an extra of the package.
"""

from __future__ import annotations

import io
import logging
import math
import struct
from typing import TYPE_CHECKING, Any

from ..errors import PictureError
from .exif import turned
from .fine import fine_of
from .layers import Layers
from .refusals import why
from .samples import FLOAT, SIGNED, Samples, eight_bits, units

if TYPE_CHECKING:
    import numpy as np

    from .fine import Fine

    Numbers = np.ndarray[Any, Any]

EXTRA = "pip install 'sdedit-cli[tiff]'"
_SAMPLE_KINDS = {1: "unsigned", 2: "signed", 3: "float"}
_MODES = {0: "L", 1: "L", 2: "RGB", 5: "CMYK"}  # by TIFF's photometric interpretation
_CHANNELS = {"L": 1, "RGB": 3, "CMYK": 4}
_ICC, _ORIENTATION, _BITS, _SAMPLES, _PLANAR, _EXTRA_SAMPLES = 34675, 274, 258, 277, 284, 338
_KIND, _SUB_PAGES, _DNG = 254, 330, 50706
_TILE = (322, 323)
MOST_PAGES = 1000
_REDUCED = 1
_USUAL_SAMPLES = 4
_ASSOCIATED = 1


class DeepTiff:
    """The first page of a TIFF, opened by tifffile and not yet decoded. Raises PictureError when that cannot be."""

    format = "TIFF"

    def __init__(self, data: bytes, name: str) -> None:
        self._name = name
        try:
            # Its remarks on broken tags are none for people who asked for a picture.
            logging.getLogger("tifffile").setLevel(logging.CRITICAL)
            import tifffile  # pyright: ignore[reportMissingImports]
        except ImportError:
            raise PictureError(f"{name}: is {_described(data)}, which Pillow does not read; {EXTRA} does") from None
        try:
            self._page: Any = tifffile.TiffFile(io.BytesIO(data)).pages[0]
            self.size = (int(self._page.imagewidth), int(self._page.imagelength))
            mode = _MODES.get(int(self._page.photometric), "")
            fits = self._page.samplesperpixel >= _CHANNELS.get(mode, math.inf) and self._page.imagedepth == 1
            self._described = self._words()
        except Exception as problem:  # a damaged file raises whatever its reader stumbles over
            raise PictureError(f"{name}: is a damaged TIFF ({why(problem)})") from None
        if not fits or min(self.size) < 1:
            raise PictureError(f"{name}: is {self._described}; expected gray, RGB or CMYK")
        self.mode = mode

    @property
    def icc(self) -> bytes:
        return self._tag(_ICC, b"")

    @property
    def orientation(self) -> int:
        """As EXIF counts it; the size is that of the picture as it lies."""
        found = self._tag(_ORIENTATION, 1)
        return found if found in range(1, 9) else 1

    def check_numbers(self, limit: float) -> None:
        """Raises PictureError for more numbers in a pixel than pictures of `limit` megapixels would come to."""
        width, height = self.size
        samples = int(self._page.samplesperpixel)
        if width * height * samples > limit * 1e6 * _USUAL_SAMPLES:
            raise PictureError(
                f"{self._name}: is {width} x {height} pixels of {samples} numbers each, more than a picture in colours "
                f"of {limit:g} megapixels has, which is the limit; leave the other channels out, or scale it down"
            )

    def _words(self) -> str:
        page = self._page
        packing = str(getattr(page.compression, "name", page.compression)).lower()
        return _words(page.samplesperpixel, page.bitspersample, page.sampleformat, packing)

    def _tag(self, number: int, default: Any) -> Any:
        tag = self._page.tags.get(number)
        return tag.value if tag is not None and isinstance(tag.value, type(default)) else default

    def decode(self, notes: list[str]) -> Layers:
        """Its layers. Raises PictureError."""
        from PIL import Image

        page = self._page
        try:
            values: Any = page.asarray()
        except Exception as problem:
            raise PictureError(f"{self._name}: is {self._described} that cannot be read ({why(problem)})") from None
        if values.ndim == 2:
            values = values[..., None]
        elif int(page.planarconfig) == 2:
            values = values.transpose(1, 2, 0)
        count = _CHANNELS[self.mode]
        how = Samples(page.bitspersample, int(page.sampleformat), int(page.photometric) == 0)
        colours, extra = values[..., :count], [int(one) for one in page.extrasamples]
        alpha = finer = None
        if values.shape[-1] > count and (not extra or extra[0] in (1, 2)):
            shows = values[..., count]
            if extra and extra[0] == _ASSOCIATED:
                colours = _unassociated(colours, shows, how)
            alpha = Image.fromarray(eight_bits(shows, Samples(how.bits, how.kind), []))
            finer = units(shows, Samples(how.bits, how.kind), [])
        levels = eight_bits(colours, how, notes)
        image = Image.frombytes(self.mode, self.size, levels.tobytes())
        fine = None
        if how.bits > 8 and self.mode in ("L", "RGB"):
            numbers = units(colours, how, [])
            fine = fine_of(numbers[..., 0] if self.mode == "L" else numbers, finer)
        return Layers(image, alpha, bool(extra), self.icc, self.orientation, fine)


def fine_of_tiff(data: bytes, *, upright: bool) -> Fine | None:
    """The numbers beyond 8 bits of the first page of a TIFF in color, turned `upright` or as they lie in the file; None
    where it has none, or cannot be read."""
    try:
        layers = DeepTiff(data, "").decode([])
    except PictureError:
        return None
    if layers.fine is None or not upright:
        return layers.fine
    return tuple(turned(one, layers.orientation) for one in layers.fine)


def is_misread(image: Any) -> bool:
    """Whether Pillow gives other pixels than are in a TIFF that it opens: of planes it knows those of 8 bits alone, as
    many as there are colours, and with transparency that is said to be some."""
    tags = image.tag_v2
    samples = tags.get(_SAMPLES, 1)
    if tags.get(_PLANAR) != 2 or samples == 1:
        return False
    bits = tags.get(_BITS, (1,))
    plain = image.mode in ("RGB", "CMYK", "YCbCr", "LAB") or (image.mode == "RGBA" and _EXTRA_SAMPLES in tags)
    return not plain or max(bits) > 8 or samples != len(image.getbands())


def pages_of(data: bytes) -> int:
    """How many pages a TIFF has, at least 1 and at most one more than `MOST_PAGES`: Pillow takes a time by their square
    to count them, and gives up on the picture where the chain of them breaks off."""
    order, is_big = ("<" if data.startswith(b"II") else ">"), b"+" in data[2:4]
    head, entry, count, link = (8, 20, f"{order}Q", f"{order}Q") if is_big else (4, 12, f"{order}H", f"{order}I")
    seen: set[int] = set()
    at = 0
    try:
        (at,) = struct.unpack_from(link, data, head)
        while at and at not in seen and len(seen) <= MOST_PAGES:
            (entries,) = struct.unpack_from(count, data, at)
            seen.add(at)
            (at,) = struct.unpack_from(link, data, at + struct.calcsize(count) + entries * entry)
    except (struct.error, OverflowError):
        pass  # beyond the end of the file, or of all files
    return max(1, len(seen))


def tile_size(image: Any) -> tuple[int, int] | None:
    """Width and height of the tiles of a TIFF that Pillow opens, which may be larger than the picture; libtiff makes
    room for a whole one. None where it has none."""
    width, height = (image.tag_v2.get(number) for number in _TILE)
    return (width, height) if isinstance(width, int) and isinstance(height, int) else None


def is_smaller_copy(image: Any) -> bool:
    """Whether the first page of a TIFF says that it is one of another page."""
    kind = image.tag_v2.get(_KIND, 0)
    return isinstance(kind, int) and bool(kind & _REDUCED)


def is_raw(image: Any, data: bytes) -> bool:
    """Whether a TIFF is a camera's raw picture, whose first page is a preview of what lies in others."""
    tags = image.tag_v2
    return _DNG in tags or (_SUB_PAGES in tags and is_smaller_copy(image)) or data[8:10] == b"CR"


def _unassociated(colours: Numbers, shows: Numbers, how: Samples) -> Numbers:
    """Colours that were multiplied by their alpha, divided by it again; black where nothing shows."""
    import numpy as np

    full = 1.0 if how.kind == FLOAT else 2.0 ** (how.bits - (how.kind == SIGNED)) - 1
    share = shows.astype(np.float64)[..., None] / full
    plain: Numbers = colours.astype(np.float64) / np.where(share > 0, share, np.inf)
    return plain if how.kind == FLOAT else np.clip(plain, 0, full)


def _words(count: int, bits: int, kind: int, packing: str = "") -> str:
    samples = f"{count} {_SAMPLE_KINDS.get(int(kind), 'other')} number{'s' if count > 1 else ''}"
    return f"a TIFF of {samples} of {bits} bits a pixel{f' ({packing})' if packing not in ('', 'none') else ''}"


def _described(data: bytes) -> str:
    """The kind of a TIFF by its tags, as far as Pillow reads those."""
    from PIL.TiffImagePlugin import ImageFileDirectory_v2

    try:
        file = io.BytesIO(data)
        tags: Any = ImageFileDirectory_v2(data[: 16 if data[2:3] == b"+" or data[3:4] == b"+" else 8])
        file.seek(tags.next)
        tags.load(file)
        return _words(tags.get(277, 1), tags.get(258, (1,))[0], tags.get(339, (1,))[0])
    except Exception:  # whatever is left of it
        return "a TIFF of an unusual kind"
