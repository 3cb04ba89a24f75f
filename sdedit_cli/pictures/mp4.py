"""Films: an MP4 that every player and browser shows, by the encoder that PyAV (an extra) brings along."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..errors import OutputError, UsageError

if TYPE_CHECKING:
    from PIL import Image

_CODEC, _QUALITY = "libx264", "18"


def _av() -> Any:
    import av  # pyright: ignore[reportMissingImports]

    return av


def check_encoder(shown: str) -> None:
    """Raises UsageError where no encoder is at hand."""
    try:
        codecs = _av().codecs_available
    except (ImportError, OSError):
        raise UsageError(f"{shown}: an MP4 needs PyAV; pip install 'sdedit-cli[film]', or take .webp") from None
    if _CODEC not in codecs:
        raise UsageError(f"{shown}: this PyAV has no {_CODEC}, which an MP4 needs; install another, or take .webp")


def mp4(images: Sequence[Image.Image], rate: int) -> bytes:
    """The bytes of a film of these frames, so many a second; equal frames give equal bytes. Raises OutputError."""
    try:
        data = _encoded([_even(image) for image in images], rate)
        shown = sum(1 for _ in _av().open(io.BytesIO(data)).decode(video=0))
    except Exception as problem:  # encoders raise whatever they stumble over
        raise OutputError(f"the mp4 cannot be written ({problem}); take .webp") from None
    if shown != len(images):
        raise OutputError(f"the mp4 reads back with {shown} frames of {len(images)}; nothing was written, take .webp")
    return data


def _encoded(images: Sequence[Image.Image], rate: int) -> bytes:
    av, buffer = _av(), io.BytesIO()
    with av.open(buffer, "w", format="mp4", options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream(_CODEC, rate=rate)
        stream.width, stream.height = images[0].size
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": _QUALITY, "threads": "1"}
        for image in images:
            container.mux(stream.encode(av.VideoFrame.from_image(image)))
        container.mux(stream.encode(None))
    return buffer.getvalue()


def _even(image: Image.Image) -> Image.Image:
    """The picture with sides that halve, as its colours are stored at half of them: its last row or column twice."""
    width, height = (side + side % 2 for side in image.size)
    if (width, height) == image.size:
        return image
    import numpy as np
    from PIL import Image

    pixels = np.pad(np.asarray(image), ((0, height - image.height), (0, width - image.width), (0, 0)), mode="edge")
    return Image.fromarray(pixels)
