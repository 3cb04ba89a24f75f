"""The files of image prompts: pictures as they are looked at, and what a picture records of them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from ..disk.hashes import FileHash
from ..options import Edit, rgb_of
from ..pictures.codec import open_picture, pixel_limit, read_picture
from ..pictures.source import STDIN, read_bytes

if TYPE_CHECKING:
    from PIL import Image

    from ..weights import Checkpoint


def check_look(name: str) -> None:
    """Raises PictureError for what is no picture that can be read, or stdin; nothing is decoded."""
    from ..errors import PictureError

    if name == STDIN:
        raise PictureError("--ip-image -: stdin is for the picture to edit; name a file")
    open_picture(read_bytes(name), name, pixel_limit(os.environ))


def looks(edit: Edit) -> list[Image.Image]:
    """The pictures of an edit's image prompts, upright, in RGB. Raises PictureError."""
    ground = rgb_of(edit.background) if edit.background else None
    return [read_picture(name, pixel_limit(os.environ), ground).rgb for name in edit.ip_image]


def hashes(edit: Edit, checkpoint: Checkpoint) -> list[tuple[str, str, FileHash, float | None]]:
    """Kind, name, hash and strength of all files that image prompts are made of."""
    if not edit.ip_adapter:
        return []
    from ..engine.ip_files import encoder_folder

    encoder = encoder_folder(edit, checkpoint)
    adapters = [("ip-adapter", Path(file.path), file.scale) for file in edit.ip_adapter]
    pictures = [("ip-image", Path(name), None) for name in edit.ip_image]
    return [
        (kind, path.stem, FileHash(path), scale)
        for kind, path, scale in (*adapters, *pictures, ("ip-encoder", encoder, None))
    ]
