"""Pictures in: any file that is read (see `readers`) becomes upright RGB of 8 bits, alpha and colour profile."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ..disk.sizes import rounded
from ..errors import OutOfMemory, PictureError
from .beside import NOTHING, Beside, beside
from .containers import PNG, Parts, taken_apart
from .exif import orientation, turned
from .fine import fine_of, of_png
from .inside import reach_of_frames, scans_of, sizes_inside
from .layers import Layers
from .profiles import label, settled
from .quiet import quiet
from .readers import is_run_length_bitmap, pillow
from .refusals import is_tiff, program, unreadable, why
from .samples import deep, shallow
from .source import limit_of, read_bytes
from .tiff import MOST_PAGES, DeepTiff, fine_of_tiff, is_misread, is_raw, is_smaller_copy, pages_of, tile_size
from .transparency import WHITE, Colour, declared, png_key, seen, split

if TYPE_CHECKING:
    from PIL import Image

    from .fine import Fine

MAX_MEGAPIXELS = 100.0
# Pillow unpacks these pixel by pixel, whatever few bytes they come from: so many take seconds.
RLE_MEGAPIXELS = 10.0
# As libtiff has it for JPEGs in a TIFF; programs write a tenth of that.
MOST_SCANS = 100
FIRST_ALONE = "the first is edited"
MEGAPIXELS_VARIABLE = "SDEDIT_MAX_MEGAPIXELS"
_LYING = 5  # the least orientation in EXIF that has width and height exchanged
_WIDTH, _HEIGHT = 256, 257  # tags of TIFF
_RAISE = f"scale it down, or raise {MEGAPIXELS_VARIABLE} if you trust the file"


@dataclass(frozen=True)
class Picture:
    """An input: upright RGB, its alpha (mode L) and colour profile, the SHA-256 of its file, and remarks for people.

    `ground` is what it stands on where it has to be opaque; `beside` what stood beside its pixels; `film` the frames of
    an animation, of which it is the first. `colours` are its own ones under the transparency, where `rgb` shows others;
    `mask` is a map of strengths (see `masks`), and `mask_sha256` the hash of its file. `small` is what `rgb` was
    enlarged from, where a model shall enlarge it in its place. `fine` are its own numbers beyond 8 bits.
    """

    rgb: Image.Image
    alpha: Image.Image | None
    icc: bytes | None
    sha256: str
    notes: tuple[str, ...] = field(default=())
    ground: Colour = WHITE
    beside: Beside = NOTHING
    film: Film | None = None
    colours: Image.Image | None = None
    mask: Image.Image | None = None
    mask_sha256: str = ""
    small: Image.Image | None = None
    fine: Fine | None = None

    @property
    def frames(self) -> tuple[Picture, ...]:
        """All of an animation; of another picture itself."""
        return self.film.frames if self.film else (self,)

    def each(self, change: Callable[[Picture], Picture]) -> Picture:
        """The picture changed, and every frame of it."""
        if self.film is None:
            return change(self)
        return replace(change(self), film=replace(self.film, frames=tuple(map(change, self.film.frames))))


@dataclass(frozen=True)
class Film:
    """The frames of an animation, how long each is shown, and how many times it plays (0: for ever)."""

    frames: tuple[Picture, ...]
    milliseconds: tuple[float, ...]
    plays: int = 0


@dataclass(frozen=True)
class Opened:
    """A file opened as a picture and not yet decoded: by Pillow, or by tifffile."""

    image: Image.Image | DeepTiff
    data: bytes
    parts: Parts | None
    notes: tuple[str, ...] = ()

    @property
    def size(self) -> tuple[int, int]:
        return self.image.size

    @property
    def icc(self) -> bytes:
        """The colour profile; b'' for none."""
        if isinstance(self.image, DeepTiff):
            return self.image.icc
        return self.parts.icc if self.parts and self.is_png else self.image.info.get("icc_profile") or b""

    @property
    def is_png(self) -> bool:
        return self.data.startswith(PNG)

    @property
    def facts(self) -> dict[str, Any]:
        """Width and height of the upright picture, mode, and what the colour profile calls itself ('' for none)."""
        width, height = self.size
        if isinstance(self.image, DeepTiff):
            turn = self.image.orientation
        else:  # of a TIFF newer releases of Pillow turn the size themselves
            tags: Any = getattr(self.image, "tag_v2", {})
            is_as_stored = (tags.get(_WIDTH, width), tags.get(_HEIGHT, height)) == self.size
            turn = orientation(self.image) if is_as_stored else 1
        if (turn or 1) >= _LYING:
            width, height = height, width
        return {"width": width, "height": height, "mode": self.image.mode, "profile": label(self.icc)}


def pixel_limit(variables: Mapping[str, str]) -> float:
    """The limit of a picture's size in megapixels: $SDEDIT_MAX_MEGAPIXELS, or 100. Raises UsageError."""
    return limit_of(variables, MEGAPIXELS_VARIABLE, MAX_MEGAPIXELS)


def open_picture(data: bytes, name: str, limit: float) -> Opened:
    """The picture in `data`, opened and not yet decoded, within `limit` megapixels. Raises PictureError."""
    name = "stdin" if name == "-" else name
    # For these there is room made when the file is opened, also where it is only looked at, without a limit.
    room = limit if limit < math.inf else pixel_limit(os.environ)
    try:
        for size in sizes_inside(data):
            _check_size(size, f"{name}: holds a picture of", room)
    except ValueError as problem:
        raise PictureError(f"{name}: holds {problem}; save it anew") from None
    for reach in reach_of_frames(data):
        _check_size(reach, f"{name}: has a frame that reaches to", room)
    opened = _opened(data, name)
    _check_size(opened.size, f"{name}: is", limit)
    if isinstance(opened.image, DeepTiff):
        opened.image.check_numbers(limit)
    elif is_tiff(data) and (tile := tile_size(opened.image)):
        _check_size(tile, f"{name}: is a TIFF in tiles of", limit)
    elif is_run_length_bitmap(opened.image):
        _check_size(
            opened.size,
            f"{name}: is a BMP packed by run lengths, which unpack slowly, of",
            RLE_MEGAPIXELS,
            "save it as PNG",
        )
    elif (scans := scans_of(data)) > MOST_SCANS:
        raise PictureError(
            f"{name}: is a JPEG of {scans} scans, each of which goes over all pixels; expected at most {MOST_SCANS}: "
            "save it anew if you trust the file"
        )
    return opened


def _check_size(size: tuple[int, int], what: str, limit: float, cure: str = _RAISE) -> None:
    width, height = size
    if width * height > limit * 1e6:
        raise PictureError(
            f"{what} {width} x {height} pixels ({rounded(width * height / 1e6)} megapixels), over the limit of "
            f"{limit:g} megapixels; {cure}"
        )


def _opened(data: bytes, name: str) -> Opened:
    if program(data):
        raise PictureError(unreadable(data, name, ""))
    parts = taken_apart(data)
    try:
        if parts is None or not data.startswith(PNG):
            return Opened(_by_pillow_or_tifffile(data, name), data, parts)
        # Of a PNG, Pillow gets what it needs: it stumbles over much that stands beside the pixels.
        image = pillow(parts.pixels)
        image.info |= {"exif": parts.exif or None, **parts.texts}
        return Opened(image, data, parts, tuple(f"left out is {what}" for what in parts.left_out))
    except PictureError:
        raise
    except Exception as problem:  # a damaged file raises whatever its decoder stumbles over
        if bare := _bare(data, parts):
            return bare
        if is_tiff(data):
            return Opened(DeepTiff(data, name), data, parts)
        raise PictureError(unreadable(data, name, why(problem))) from None


def _by_pillow_or_tifffile(data: bytes, name: str) -> Image.Image | DeepTiff:
    image = pillow(data)
    if not is_tiff(data):
        return image
    if is_raw(image, data):
        raise PictureError(
            f"{name}: is a raw picture of a camera, in which only a small preview stands as a plain picture; develop "
            "it to a TIFF or PNG first"
        )
    return DeepTiff(data, name) if is_misread(image) else image


def _bare(data: bytes, parts: Parts | None) -> Opened | None:
    """A picture that cannot be opened as it is, opened without what stands beside its pixels."""
    if parts is None or data.startswith(PNG):
        return None
    try:
        image = pillow(parts.pixels)
    except Exception:
        return None
    image.info["exif"] = parts.exif or None
    return Opened(image, data, parts, ("what stands beside its pixels is broken and left out",))


def read_picture(source: str, limit: float, background: Colour | None = None) -> Picture:
    """The picture in a file ('-': stdin), decoded, upright, in 8 bits a channel. Raises PictureError.

    Where it is transparent its `rgb` shows `background`, or its own edge colours.
    """
    shown = "stdin" if source == "-" else source
    return decoded(open_picture(read_bytes(source), shown, limit), shown, background)


def decoded(opened: Opened, shown: str, background: Colour | None = None) -> Picture:
    """The picture of an opened file that is called `shown` in errors; see `read_picture`."""
    width, height = opened.size
    try:
        with quiet():
            return _picture(_loaded(opened), background)
    except PictureError:
        raise
    except MemoryError:
        raise OutOfMemory(f"{shown}: {width} x {height} pixels do not fit into memory") from None
    except Exception as problem:  # a damaged file raises whatever its decoder stumbles over
        raise PictureError(f"{shown}: is damaged or cut short ({why(problem)})") from None


def _loaded(opened: Opened) -> Opened:
    """Decoded; a file whose decoder stumbles is tried again without what stands beside its pixels."""
    if isinstance(opened.image, DeepTiff):
        return opened
    try:
        opened.image.load()
        return opened
    except Exception:
        bare = _bare(opened.data, opened.parts)
        if bare is None or isinstance(bare.image, DeepTiff) or bare.size != opened.size:
            raise
        bare.image.load()
        return bare


def _picture(opened: Opened, background: Colour | None) -> Picture:
    notes = list(opened.notes)
    layers = _layers(opened, notes)
    colours, alpha = layers.colours, layers.alpha
    if alpha is not None and not layers.declared and alpha.getextrema() == (0, 0):
        notes.append("has a fourth channel that is 0 everywhere and not said to be transparency: taken for opaque")
        alpha = None
    rgb, icc = settled(colours, layers.icc, notes)
    rgb, alpha = turned(rgb, layers.orientation), alpha and turned(alpha, layers.orientation)
    own = None
    if alpha is not None:
        own, rgb = rgb, seen(rgb, alpha, background)
    image = None if isinstance(opened.image, DeepTiff) else opened.image
    stood = beside(image, opened.data, opened.parts)
    sha256 = hashlib.sha256(opened.data).hexdigest()
    fine = layers.fine
    if fine is not None and icc != (layers.icc or None):  # brought to other colours, in 8 bits
        fine = None
    elif fine is not None:
        fine = tuple(turned(one, layers.orientation) for one in fine)
    return Picture(rgb, alpha, icc, sha256, tuple(notes), background or WHITE, stood, colours=own, fine=fine)


def _layers(opened: Opened, notes: list[str]) -> Layers:
    image, parts = opened.image, opened.parts
    if isinstance(image, DeepTiff):
        return image.decode(notes)
    frames = parts.frames if parts and opened.is_png else _frames(image, opened.data)
    if frames is None:
        notes.append(f"is damaged behind its first frame; {FIRST_ALONE}")
    elif frames > 1:
        is_copy = is_tiff(opened.data) and is_smaller_copy(image)
        many = f"more than {MOST_PAGES}" if frames > MOST_PAGES and is_tiff(opened.data) else frames
        notes.append(f"has {many} frames{', the first a smaller copy of another' if is_copy else ''}; {FIRST_ALONE}")
    turn = orientation(image)
    if turn is None:
        notes.append("its EXIF data is broken and left out")
    colours, alpha = image, png_key(image, parts) if parts and opened.is_png else None
    if alpha is None:
        colours, alpha = split(image)
    fine = _fine(opened, colours, upright=turn == 1)
    return Layers(shallow(colours, notes), alpha, declared(image, opened.data), opened.icc, turn or 1, fine)


def _fine(opened: Opened, colours: Image.Image, *, upright: bool) -> Fine | None:
    """The numbers beyond 8 bits of what Pillow reads in 16, `upright` by now or not; of an animation none."""
    parts = opened.parts
    if parts and opened.is_png:
        return of_png(parts.pixels) if parts.frames == 1 else None
    if is_tiff(opened.data) and colours.mode == "RGB":  # of which Pillow gives the upper halves
        return fine_of_tiff(opened.data, upright=upright)
    numbers = deep(colours)
    return None if numbers is None else fine_of(numbers)


def _frames(image: Image.Image, data: bytes) -> int | None:
    """How many frames a picture has; None for a GIF that breaks off behind its first."""
    if image.format == "GIF":  # whose frames are found by going on to the next, with a reader for that alone
        try:
            return getattr(pillow(data), "n_frames", 1)
        except Exception:
            return None
    if is_tiff(data):
        return pages_of(data)
    # Of these, the others are sizes and views of one picture.
    return 1 if image.format in ("MPO", "ICO") else getattr(image, "n_frames", 1)
