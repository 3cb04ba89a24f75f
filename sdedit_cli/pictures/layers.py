"""What a decoder gives: the layers of one picture before its colours are looked at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image

    from .fine import Fine


@dataclass(frozen=True)
class Layers:
    """Colours of 8 bits a channel (not yet RGB), alpha (mode L) and whether the file says that it is alpha; the
    colour profile, the orientation as EXIF counts it, and what the numbers are beyond 8 bits."""

    colours: Image.Image
    alpha: Image.Image | None
    declared: bool = True
    icc: bytes = b""
    orientation: int = 1
    fine: Fine | None = None
