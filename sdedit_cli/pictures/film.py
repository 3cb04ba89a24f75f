"""Animations: every frame in, as a picture of its own; edited frames out, with the times and turns of the input."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..errors import OutOfMemory, OutputError, PictureError
from .codec import FIRST_ALONE, Film, Opened, Picture, decoded, open_picture
from .containers import riff_chunks
from .exif import orientation, turned
from .profiles import settled
from .quiet import quiet
from .readers import pillow
from .refusals import why
from .samples import shallow
from .source import read_bytes
from .tiff import DeepTiff
from .transparency import Colour, seen, split

if TYPE_CHECKING:
    from PIL import Image

_ANIMATED, _CLEAR = 0x02, 0x10  # flags of VP8X
# The frames of other formats are pages, sizes and views, and have no times.
_MOVING = ("GIF", "WEBP", "PNG", "AVIF")


def read_film(source: str, limit: float, background: Colour | None = None) -> Picture:
    """The picture in a file ('-': stdin) as `read_picture` gives it, with all its frames where it is an animation.

    Raises PictureError, also for more than `limit` megapixels of all frames together.
    """
    shown = "stdin" if source == "-" else source
    opened = open_picture(read_bytes(source), shown, limit)
    picture = decoded(opened, shown, background)
    try:
        with quiet():
            film = _film(opened, picture, shown, limit, background)
    except PictureError:
        raise
    except MemoryError:
        raise OutOfMemory(f"{shown}: its frames do not fit into memory; --frames first edits one") from None
    except Exception as problem:  # a damaged file raises whatever its decoder stumbles over
        raise PictureError(
            f"{shown}: a frame is damaged or cut short ({why(problem)}); --frames first edits one"
        ) from None
    if film is None:
        return replace(picture, notes=tuple(map(_of_pages, picture.notes)))
    notes = tuple(note for note in picture.notes if not note.endswith(FIRST_ALONE))
    return replace(film.frames[0], beside=picture.beside, notes=notes, film=film)


def _of_pages(note: str) -> str:
    return f"{note}: they have no times, and --frames all is for animations" if note.endswith(FIRST_ALONE) else note


def _film(opened: Opened, picture: Picture, shown: str, limit: float, background: Colour | None) -> Film | None:
    image: Any = None if isinstance(opened.image, DeepTiff) else pillow(opened.data)
    count = getattr(image, "n_frames", 1) if image and image.format in _MOVING else 1
    if count == 1:
        return None
    size = image.size
    _check_together(count, size, shown, limit)
    turn = None if isinstance(opened.image, DeepTiff) else orientation(opened.image)
    # A PNG may have a picture for readers that know no animations, which is no frame of it.
    first = 1 if image.info.get("default_image") else 0
    frames: list[Picture] = []
    times: list[float] = []
    for index in range(first, count):
        image.seek(index)
        _check_together(count, image.size, shown, limit)
        image.load()
        # A later frame of a GIF may reach beyond the screen, for which Pillow enlarges it; what is beyond is not shown.
        frames.append(_frame(image.crop((0, 0, *size)), opened.icc, turn or 1, picture, background))
        times.append(float(image.info.get("duration") or 0))
    # A GIF that does not say plays once; the others say.
    plays = image.info.get("loop", 1 if image.format == "GIF" else 0)
    return Film(tuple(frames), tuple(times), int(plays))


def _check_together(count: int, size: tuple[int, int], shown: str, limit: float) -> None:
    width, height = size
    if count * width * height > limit * 1e6:
        raise PictureError(
            f"{shown}: has {count} frames of {width} x {height} pixels, over the limit of {limit:g} megapixels "
            "together; shorten it, scale it down, or take --frames first"
        )


def _frame(image: Image.Image, icc: bytes, turn: int, picture: Picture, background: Colour | None) -> Picture:
    colours, alpha = split(image)
    rgb, profile = settled(shallow(colours, []), icc, [])
    rgb, alpha = turned(rgb, turn), alpha and turned(alpha, turn)
    shown = seen(rgb, alpha, background) if alpha else rgb
    colours = rgb if alpha else None
    return replace(picture, rgb=shown, alpha=alpha, colours=colours, icc=profile, film=None, fine=None)


def bare(image: Image.Image) -> Image.Image:
    """The pixels alone, in a picture of their own: what nobody tells Pillow's writers, they take from what was read
    beside them, be it a profile, a comment or times."""
    copy = image.copy()
    copy.info = {}
    return copy


def wholes(film: Film, images: Sequence[Image.Image]) -> Iterator[Image.Image]:
    """The edited frames with the transparency of the input's; if one has some, all have."""
    from PIL import Image

    any_alpha = any(frame.alpha for frame in film.frames)
    for frame, image in zip(film.frames, images, strict=True):
        whole = bare(image)
        if any_alpha:
            whole.putalpha(frame.alpha or Image.new("L", image.size, 255))
        yield whole


def arguments(film: Film, rest: Sequence[Image.Image], format: str) -> dict[str, Any]:
    """What Pillow's `save` is told of an animated GIF or PNG, of whose frames these follow the first."""
    shared = {"save_all": True, "append_images": list(rest), "duration": [round(time) for time in film.milliseconds]}
    if format == "gif":
        # Frames are whole; where they are transparent, the one before has to go first.
        again = {} if film.plays == 1 else {"loop": film.plays}
        return shared | again | {"disposal": 2 if any(frame.alpha for frame in film.frames) else 1}
    return shared | {"loop": film.plays, "disposal": 0, "blend": 0}


def webp(stills: Sequence[bytes], film: Film, icc: bytes, exif: bytes, packet: bytes) -> bytes:
    """An animated WebP of whole frames, each given as a WebP of its own. Pillow's own loses the transparency."""
    width, height = (side - 1 for side in film.frames[0].rgb.size)
    canvas = struct.pack("<I", width)[:3] + struct.pack("<I", height)[:3]
    beside = ((b"ICCP", icc, 0x20), (b"EXIF", exif.removeprefix(b"Exif\0\0"), 0x08), (b"XMP ", packet, 0x04))
    flags = _ANIMATED | (_CLEAR if any(frame.alpha for frame in film.frames) else 0)
    flags |= sum(flag for _, body, flag in beside if body)
    profile, *rest = (_riff(kind, body) if body else b"" for kind, body, _ in beside)
    frames = [
        # Nothing is blended with the frame before.
        _riff(b"ANMF", bytes(6) + canvas + struct.pack("<I", round(time))[:3] + b"\2" + _pixels(still))
        for still, time in zip(stills, film.milliseconds, strict=True)
    ]
    turns = _riff(b"ANIM", struct.pack("<IH", 0, min(film.plays, 0xFFFF)))
    head = _riff(b"VP8X", struct.pack("<I", flags) + canvas)
    content = b"WEBP" + b"".join([head, profile, turns, *frames, *rest])
    return b"RIFF" + struct.pack("<I", len(content)) + content


def _riff(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)


def _pixels(still: bytes) -> bytes:
    """The chunks of a WebP that hold its pixels."""
    chunks = riff_chunks(still)
    return b"".join(whole for kind, _, whole in chunks if kind in (b"ALPH", b"VP8 ", b"VP8L"))


def check(data: bytes, film: Film, format: str, *, alike: bool) -> None:
    """Raises OutputError unless the bytes are an animation of this size and length again; a still will do where all
    frames are `alike`, though it has no times."""
    try:
        with quiet():
            image: Any = pillow(data)
            times: list[float] = []
            for index in range(getattr(image, "n_frames", 1)):
                image.seek(index)
                image.load()
                times.append(float(image.info.get("duration") or 0))
    except MemoryError:
        raise
    except Exception as problem:  # readers raise whatever they stumble over
        raise OutputError(f"the animated {format} cannot be read back ({problem}); nothing was written") from None
    if alike and len(times) == 1 and image.size == film.frames[0].rgb.size:
        return
    # Frames that are alike are shown once, for longer; a GIF counts in hundredths of a second.
    if image.size != film.frames[0].rgb.size or abs(sum(times) - sum(film.milliseconds)) > 10 * len(film.frames):
        raise OutputError(f"the animated {format} reads back as another one; nothing was written, try another --format")
