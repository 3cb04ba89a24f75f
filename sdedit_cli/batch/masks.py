"""Masks by name: of each picture the one of equal stem in a folder of masks."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import MaskError, UsageError, listed, shortened
from ..options import Layer
from ..pictures.endings import READ_ENDINGS
from .names import parted
from .rows import Row


@dataclass(frozen=True, slots=True)
class MaskFolder:
    """A folder of masks, laid out as the source is: that of 'ui/b.png' is 'ui/b' with any ending of a picture, or 'b'
    beside the others. Each folder is listed once. Raises UsageError where it is none."""

    folder: Path
    _known: dict[str, dict[str, list[str]]] = field(default_factory=dict[str, dict[str, list[str]]])

    def __post_init__(self) -> None:
        if not os.path.isdir(self.folder):
            raise UsageError(
                f"--mask-dir {shortened(self.folder)}: no such folder; expected one with a mask for each picture"
            )

    def layers(self, row: Row) -> list[Layer]:
        """The mask of a row's picture; nothing where the row names one itself. Raises MaskError."""
        if "mask" in row.values:
            return []
        folder, _, stem = parted(row.name)
        for place in dict.fromkeys((folder, ".")):
            # A picture is no mask of its own.
            found = [name for name in self._masks(place).get(stem, []) if not self._is(place, name, row.input)]
            if len(found) > 1:
                raise MaskError(f"{row.input}: has several masks in {self.folder / place}: {listed(found)}; leave one")
            if found:
                path = str(self.folder / place / found[0])
                return [Layer(path, {"mask": path})]
        own = self._is(folder, os.path.basename(row.input), row.input)
        wanted = self.folder / folder / f"{stem}.png"
        more = "a folder of masks beside that of the pictures" if own else f"{wanted}, or another picture format"
        raise MaskError(f"{row.input}: has no mask in {self.folder}; expected {more}")

    def _is(self, place: str, name: str, source: str) -> bool:
        return os.path.abspath(self.folder / place / name) == os.path.abspath(source)

    def _masks(self, place: str) -> dict[str, list[str]]:
        if place not in self._known:
            masks: dict[str, list[str]] = {}
            try:
                names = sorted(os.listdir(self.folder / place))
            except OSError:
                names = []  # the source has more folders
            for name in names:
                if os.path.splitext(name)[1].lower() in READ_ENDINGS:
                    masks.setdefault(parted(name)[2], []).append(name)
            self._known[place] = masks
        return self._known[place]

    def look_again(self) -> None:
        """Forgets what was there: somebody may have put masks there since."""
        self._known.clear()

    def without(self, rows: Sequence[Row], root: Path) -> list[Row]:
        """The rows but for the masks themselves, where the folder lies within `root`, that of the source."""
        inside = os.path.join(os.path.abspath(self.folder), "")
        if os.path.join(os.path.abspath(root), "").startswith(inside):
            return list(rows)
        return [row for row in rows if not os.path.abspath(row.input).startswith(inside)]
