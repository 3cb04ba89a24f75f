"""The options of files: what is taken of an input's file, and how the result is written."""

from __future__ import annotations

from dataclasses import dataclass, fields

from ..errors import UsageError
from .declared import declare

KEEP, DROP, EDIT = "keep", "drop", "edit"
FIRST, ALL = "first", "all"
# What has room for more than 8 bits a channel, and for more than one picture.
DEEP_FORMATS = ("png",)
MOVING_FORMATS = ("png", "webp", "gif")
LOSSLESS_FORMATS = ("webp", "png")


@dataclass(frozen=True, slots=True, kw_only=True)
class FileOptions:
    """Part of `Edit`. What is as usual is neither kept in pictures nor counted."""

    alpha: str = declare(
        KEEP,
        "Transparency of the input: keep it as it is, drop it (an opaque picture, on --background or on white), or edit"
        " it: the picture is edited on a plain ground, and what is ground afterwards is clear.",
        "Files",
        choices=(KEEP, DROP, EDIT),
    )
    to_srgb: bool = declare(
        False, "Bring the colours to sRGB by the input's profile, which is kept otherwise.", "Files"
    )
    bits: int = declare(
        8,
        "Bits of a channel: 8, or 16 for a PNG of the model's own numbers, rounded to no fewer.",
        "Files",
        numbers=(8, 16),
    )
    frames: str = declare(
        FIRST,
        "Frames of an animation to edit: the first, or all, with one seed, into an animated GIF, WebP or PNG.",
        "Files",
        choices=(FIRST, ALL),
    )
    lossless: bool = declare(False, "Write WebP without loss.", "Files", pixels=False, saved=True)
    quality: int | None = declare(
        None,
        "Quality of JPEG, WebP and AVIF files.",
        "Files",
        low=1,
        high=100,
        pixels=False,
        saved=True,
        blank="95; of AVIF 90",
    )
    strip: bool = declare(
        False,
        "Leave out the input's EXIF, XMP and IPTC, such as camera, place and author.",
        "Files",
        pixels=False,
        saved=True,
    )
    metadata: bool = declare(
        True,
        "Record the settings in the picture, and mark it as made with a model; --no-metadata writes neither.",
        "Files",
        pixels=False,
    )
    c2pa: str | None = declare(
        None,
        "Sign pictures by C2PA with this chain of certificates (PEM), and with --c2pa-key.",
        "Files",
        metavar="CERT",
        path=True,
        pixels=False,
    )
    c2pa_key: str | None = declare(
        None, "The private key for --c2pa (PEM).", "Files", metavar="KEY", path=True, pixels=False
    )

    def check_files(self) -> None:
        """Raises UsageError for options that do not go together."""
        if (self.c2pa is None) != (self.c2pa_key is None):
            raise UsageError("c2pa and c2pa-key go together: a chain of certificates, and its private key")
        if self.bits == 16 and self.frames == ALL:
            raise UsageError("bits 16 and frames all exclude each other: an animation has 8 bits")
        if self.lossless and self.quality is not None:
            raise UsageError("quality and lossless exclude each other; give one of them")

    def check_format(self, format: str) -> None:
        """Raises UsageError where a file of this format cannot be what is asked for."""
        asked = (
            ("bits 16", self.bits == 16, DEEP_FORMATS),
            ("frames all", self.frames == ALL, MOVING_FORMATS),
            ("lossless", self.lossless, LOSSLESS_FORMATS),
        )
        for words, wanted, formats in asked:
            if wanted and format not in formats:
                *others, last = formats
                listed = f"{', '.join(others)} or {last}" if others else last
                raise UsageError(f"{words}: {format} cannot be that; take --format {listed}")


# What a file is like when nobody says anything.
USUAL = {field.name: field.default for field in fields(FileOptions)}
