"""What was measured of this machine, kept in the user's cache folder: which attention is fastest for which shape."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any, cast

from ..disk.hashes import cache_folder
from ..disk.whole import write_bytes
from ..errors import OutputError

NAME = "attention.json"
_MOST = 1000


class Choices:
    """The choices of earlier runs, which this one takes over and adds to. Only GPUs have any to make."""

    def __init__(self, device: str) -> None:
        self._folder = cache_folder() if device.startswith("cuda") else None
        self._known = 0
        if self._folder is not None:
            table = _table()
            table.update({**self._read(), **table})
            self._known = len(table)

    def keep(self) -> None:
        """Writes down what has been added. A cache that cannot be written to is no reason to fail."""
        if self._folder is None or len(_table()) == self._known:
            return
        table = {**self._read(), **_table()}
        self._known = len(_table())
        with suppress(OutputError):
            write_bytes(self._folder / NAME, json.dumps(dict(list(table.items())[-_MOST:])).encode(), replace=True)

    def _read(self) -> dict[str, str]:
        assert self._folder is not None
        try:
            said: Any = json.loads((self._folder / NAME).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        table = cast("dict[str, Any]", said) if isinstance(said, dict) else {}
        return {key: value for key, value in table.items() if isinstance(value, str)}


def _table() -> dict[str, str]:
    from ..runtime.attention_choice import CHOSEN

    return CHOSEN.table
