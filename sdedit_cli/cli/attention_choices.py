"""What was measured of this machine, kept in the user's cache folder: which attention is fastest for which shape."""

from __future__ import annotations

from ..disk.hashes import cache_folder
from ..disk.shelf import Notes

NAME = "attention.json"
_MOST = 1000


class Choices:
    """The choices of earlier runs, which this one takes over and adds to. Only GPUs have any to make."""

    def __init__(self, device: str) -> None:
        folder = cache_folder() if device.startswith("cuda") else None
        self._notes = folder and Notes(folder / NAME, _MOST, str)
        self._known = 0
        if self._notes:
            table = _table()
            table.update({**self._notes.read(), **table})
            self._known = len(table)

    def keep(self) -> None:
        """Writes down what has been added. A cache that cannot be written to is no reason to fail."""
        if self._notes and len(_table()) != self._known:
            self._known = len(_table())
            self._notes.add(_table())


def _table() -> dict[str, str]:
    from ..runtime.attention_choice import CHOSEN

    return CHOSEN.table
