"""Where what took long to find is kept between runs, as bytes under a name: whoever runs networks brings one along."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from hashlib import blake2b
from typing import Protocol, TypeVar

T = TypeVar("T")
_DIGEST = 32


class Shelf(Protocol):
    def get(self, name: str) -> bytes | None:
        """What is kept under a name; None where there is nothing that can be read."""
        ...

    def put(self, name: str, data: bytes) -> None:
        """Keeps it, whole or not at all. That nothing can be kept is no error."""
        ...


class InMemory:
    """A shelf of this process alone."""

    def __init__(self) -> None:
        self._kept: dict[str, bytes] = {}

    def get(self, name: str) -> bytes | None:
        return self._kept.get(name)

    def put(self, name: str, data: bytes) -> None:
        self._kept[name] = data


def kept(shelf: Shelf, name: str, make: Callable[[], bytes], read: Callable[[bytes], T]) -> T:
    """What `read` makes of what is on the shelf; of what is made now, and put there, where it is missing or damaged.

    `read` raises RuntimeError or ValueError for what it cannot read.
    """
    found = shelf.get(name)
    if found is not None and _digest(found[_DIGEST:]) == found[:_DIGEST]:
        with suppress(RuntimeError, ValueError):  # of another program
            return read(found[_DIGEST:])
    made = make()
    shelf.put(name, _digest(made) + made)
    return read(made)


def _digest(data: bytes) -> bytes:
    return blake2b(data, digest_size=_DIGEST).digest()
