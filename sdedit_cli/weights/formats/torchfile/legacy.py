"""Files of torch.save before 1.6: pickles end to end (magic number, protocol, machine, object, storage keys), then the
storages, each an element count of 8 bytes and raw elements.

Counts and elements are little-endian on every machine: what is said of the machine's own order is not for the reader.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ....errors import shown
from ..mapped_file import MappedFile
from .machine import PersistentLoad, PickleMachine
from .opcodes import PickleStream
from .values import BadPickle, Storage, as_sequence, short

MAGIC = 0x1950A86A20F9469CFC6C
PROTOCOL = 1001


@dataclass(frozen=True)
class Extent:
    """Where a storage's elements are in the file, in bytes."""

    start: int
    size: int


@dataclass(frozen=True)
class LegacyFile:
    """The object in a file and, by key, where its storages are."""

    root: object
    extents: Mapping[str, Extent]


def read_legacy(file: MappedFile, persistent_load: PersistentLoad, storages: Mapping[str, Storage]) -> LegacyFile:
    """What is in the file. `storages` is what `persistent_load` has met, by key.

    A file that does not begin with the magic number is a bare pickle: its object is returned without extents.
    Raises BadPickle for damage, UnsafeFileError for what runs code.
    """
    stream = PickleStream(file.buffer)
    first = PickleMachine(stream).load()
    if first != MAGIC:
        return LegacyFile(first, {})
    if PickleMachine(stream).load() != PROTOCOL:
        raise BadPickle("a torch file of an unknown protocol")
    PickleMachine(stream).load()
    root = PickleMachine(stream, persistent_load).load()
    keys = as_sequence(PickleMachine(stream).load())
    if keys is None:
        raise BadPickle("no list of storages")
    return LegacyFile(root, _extents(file, stream.tell(), keys, storages))


def _extents(
    file: MappedFile, position: int, keys: Sequence[object], storages: Mapping[str, Storage]
) -> dict[str, Extent]:
    extents: dict[str, Extent] = {}
    for key in keys:
        storage = storages.get(key) if isinstance(key, str) else None
        if storage is None or storage.key in extents:
            raise BadPickle(f"a storage that is not asked for, or there twice: {short(key)}")
        count = int.from_bytes(file.data(position, 8), "little")
        size = storage.count * storage.dtype.itemsize
        if count != storage.count or position + 8 + size > file.size:
            raise BadPickle(
                f"storage '{shown(storage.key, 40)}' has {count} elements at byte {position}, expected {storage.count}"
            )
        extents[storage.key] = Extent(position + 8, size)
        position += 8 + size
    return extents
