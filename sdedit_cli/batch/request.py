"""What a run is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..options import Edit

if TYPE_CHECKING:
    from ..pictures.record import Found


@dataclass(frozen=True, slots=True)
class Model:
    """A checkpoint: its name for people and pictures, and its path, or its id or URL on the Hub (the built-in one has
    neither)."""

    name: str
    path: Path | None
    hub: str | None = None
    knows: str = ""  # what it can draw, for people, where the model says so

    @property
    def built_in(self) -> bool:
        return self.path is None and self.hub is None


@dataclass(frozen=True, slots=True)
class Request:
    """One edit as asked for, the checkpoint that it means, what the picture of `--like` said, and notes for people."""

    edit: Edit
    model: Model
    like: Found | None = None
    notes: tuple[str, ...] = ()
