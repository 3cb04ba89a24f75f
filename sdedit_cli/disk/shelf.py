"""What took long to find, on disk: it may be gone, damaged or another process's at any time, and is never missed."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

from ..errors import OutputError
from .leftovers import clear_leftovers, removed
from .whole import write_bytes

T = TypeVar("T")


@dataclass(frozen=True)
class Shelf:
    """Files of a folder by their names; of more than `most_bytes` or `most_files` the ones not used for longest go.

    With an `ending` only files that have it count and go.
    """

    folder: Path
    most_bytes: int
    most_files: int
    ending: str = ""

    def get(self, name: str) -> bytes | None:
        """What a file holds; None where it cannot be read."""
        path = self.folder / name
        try:
            data = path.read_bytes()
            os.utime(path)
        except OSError:
            return None
        return data

    def put(self, name: str, data: bytes) -> None:
        """Writes a file, whole or not at all; a folder that cannot be written to, or is full, is no error."""
        path = self.folder / name
        clear_leftovers(self.folder)
        with contextlib.suppress(OutputError, OSError):
            write_bytes(path, data, replace=True)
            self.make_room(path)

    def make_room(self, newest: Path) -> None:
        """Removes what is too much, but for a file that was just written. Raises OSError for a folder that cannot be
        listed."""
        files: list[tuple[int, int, Path]] = []
        with os.scandir(self.folder) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):  # another process was first
                    if entry.is_file() and not entry.name.startswith(".") and entry.name.endswith(self.ending):
                        files.append(((status := entry.stat()).st_mtime_ns, status.st_size, Path(entry.path)))
        total, count = sum(size for _, size, _ in files), len(files)
        for _, size, path in sorted(files):
            if total <= self.most_bytes and count <= self.most_files:
                return
            if path != newest and removed(path):
                total, count = total - size, count - 1


@dataclass(frozen=True)
class Notes(Generic[T]):
    """A table in a file of JSON, whose values are of a `kind`; of more than `most` the oldest go."""

    path: Path
    most: int
    kind: type[T]

    def read(self) -> dict[str, T]:
        """What it holds; nothing where it cannot be read, or may never end."""
        try:
            told: object = json.loads(self.path.read_text(encoding="utf-8")) if self.path.is_file() else {}
        except (OSError, ValueError, RecursionError):
            return {}
        table = cast("dict[str, Any]", told) if isinstance(told, dict) else {}
        return {key: value for key, value in table.items() if isinstance(value, self.kind)}

    def add(self, entries: Mapping[str, T]) -> None:
        """Writes entries beside those that are there by now, where that can be done."""
        with contextlib.suppress(OutputError, OSError):
            if self.path.exists() and not self.path.is_file():
                return  # a pipe would wait for its reader
            table = {**self.read(), **entries}
            clear_leftovers(self.path.parent)
            write_bytes(self.path, json.dumps(dict(list(table.items())[-self.most :])).encode(), replace=True)
