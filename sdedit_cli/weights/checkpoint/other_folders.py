"""Folders that are no model's: what the weights in them are, for those who took one for a model."""

from __future__ import annotations

from pathlib import Path

from ...errors import ModelError, shown
from ..formats.open import open_weights
from .index import FILE
from .layouts import find_places, looks_like

_SUFFIXES = (".safetensors", ".bin", ".pt", ".ckpt", ".pth")
_KNOWN = "looks like "


def lone_file(folder: Path) -> Path | None:
    """The only weights file of a folder that is no model's; None for any other folder."""
    files = [] if (folder / FILE).is_file() else _files(folder)
    return files[0] if len(files) == 1 and not _has_component(files[0]) else None


def said_of(folder: Path) -> str:
    """For an error: what the weights in a folder that is no model's look like, and what to try; '' where they tell
    nothing. Those in folders of it count where it has none itself."""
    if (folder / FILE).is_file():
        return ""
    files = _files(folder) or [
        file for below in sorted(filter(Path.is_dir, folder.iterdir())) for file in _files(below)
    ]
    words = _said(files[0]) if files else ""
    return f"is no model: {shown(files[0].relative_to(folder).as_posix())} in it {words}" if words else ""


def _files(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.suffix in _SUFFIXES and path.is_file())
    except OSError:
        return []


def _has_component(file: Path) -> bool:
    try:
        return bool(find_places(open_weights(file).names()))
    except ModelError:
        return False


def _said(file: Path) -> str:
    try:
        names = open_weights(file).names()
    except ModelError:
        return ""
    words = "" if find_places(names) else looks_like(names)
    return words if words.startswith(_KNOWN) else ""
