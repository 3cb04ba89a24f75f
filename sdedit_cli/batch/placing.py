"""Finished pictures get their names: to a file, the next free one, or stdout."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from ..disk.whole import TakenError, write_bytes
from ..pictures.codec import Picture
from ..pictures.encode import encode
from .events import write_all
from .targets import Target, settle

if TYPE_CHECKING:
    from PIL import Image


def placed(target: Target, data: bytes, on_exists: str, taken: set[Path], stdout: BinaryIO | None) -> Target | None:
    """Writes a picture under its name, or with `suffix` under the next one that is free; the target with it. None where
    another program was first, and `skip` leaves what is there.

    `taken` are the paths promised to earlier pictures of this run. A picture of a sweep without a file of its own is
    written nowhere. Raises OutputError.
    """
    if target.path is None and target.cell:
        return target
    if target.path is None:
        assert stdout is not None
        write_all(stdout, data)
        return target
    still = target.stood.still if target.stood else None
    while True:
        try:
            write_bytes(target.path, data, replace=target.replaces or on_exists == "overwrite", still=still)
            return target
        except TakenError:
            if on_exists == "skip":
                return None
            if on_exists != "suffix":
                raise
            target = replace(target, path=settle(target.wanted or target.path, "suffix", taken))
            assert target.path is not None


def save_step(wanted: Path, image: Image.Image, picture: Picture, on_exists: str) -> str:
    """Writes a picture as it is after a step, with the alpha and profile of the input; its path. Raises OutputError."""
    policy = "overwrite" if on_exists == "overwrite" else "suffix"
    path = settle(wanted, policy, set())
    assert path is not None
    write_bytes(path, encode(image, picture.alpha, picture.icc, "png"), replace=policy == "overwrite")
    return str(path)
