"""A WeightSource from .ckpt, .pt, .pth and .bin files: torch's zip archives, its older files, and bare pickles."""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from pathlib import Path

import torch
from torch import Tensor

from ....errors import ModelError, UnsafeFileError, shown
from ..mapped_file import MappedFile
from ..source import EntrySource
from .archive import Member, read_members
from .arrays import from_array, swapped
from .globals import STORAGES
from .legacy import Extent, read_legacy
from .machine import PickleMachine
from .opcodes import PickleStream
from .state_dict import contents
from .values import ArrayRef, BadPickle, Global, Storage, TensorRef, as_sequence, short

# Expanded tensors and tensors that share bytes may add this much to what a file holds: some copies of it, as trainers
# have several names for the same weights, or these bytes.
_COPIES = 4
_REPEATED_LIMIT = 64_000_000
_KEY_LIMIT = 256
_PICKLE_LIMIT = 512_000_000  # names and shapes beside storages: 1.x models take 1 MB; arrays of numpy are in it too
_ORDER_LIMIT = 16


class PickleSource(EntrySource[TensorRef | ArrayRef]):
    """The tensors of a pickled checkpoint, read when asked for; nothing that the file names is ever imported or called.

    `extras` are plain values, or the name of their class.
    """

    format = "pickle (read without executing it)"

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = MappedFile(path)
        self._storages: dict[str, Storage] = {}
        self._extents: Mapping[str, Extent | Member] = {}
        self._little_endian = True
        try:
            self._entries, self.extras = contents(self._read())
            self.unreadable = _problems(self._entries, self._storages, self._file.size)
        except BadPickle as error:
            raise ModelError(f"{path}: not a usable pickle: {error}") from None
        except UnsafeFileError as error:
            raise UnsafeFileError(f"{path}: {error}") from None
        if not self._entries:
            found = ", ".join(shown(name, 40) for name in list(self.extras)[:6])
            raise ModelError(f"{path}: holds no tensors (found: {found or 'nothing'})")

    def get(self, name: str) -> Tensor:
        entry = self._entry(name)
        if name in self.unreadable:
            raise ModelError(f"{self.path}: the tensor '{shown(name)}' {self.unreadable[name]}")
        return self._stored(entry) if isinstance(entry, TensorRef) else from_array(entry)

    def _read(self) -> object:
        if self._file.data(0, 4) == b"PK\x03\x04":
            return self._read_zip()
        found = read_legacy(self._file, self._persistent, self._storages)
        self._extents = found.extents
        missing = set(self._storages) - set(self._extents)
        if missing:
            raise BadPickle(f"the storage '{shown(min(missing), 40)}' is not in the file")
        return found.root

    def _read_zip(self) -> object:
        members = read_members(self._file)
        roots = [name.removesuffix("data.pkl") for name in members if name.endswith("/data.pkl")]
        if len(roots) != 1:
            what = "is a zip archive but no torch checkpoint (it has no data.pkl of its own)"
            raise ModelError(f"{self.path}: {what}; unpack it and name the weights in it")
        if f"{roots[0]}constants.pkl" in members:
            raise UnsafeFileError("is a TorchScript program; expected plain weights (a state dict)")
        pickled, order = members[f"{roots[0]}data.pkl"], members.get(f"{roots[0]}byteorder")
        if pickled.size > _PICKLE_LIMIT:
            raise BadPickle(
                f"{pickled.size / 1e6:.0f} MB beside its storages, expected {_PICKLE_LIMIT / 1e6:.0f} at most; save "
                "the weights alone, as tensors"
            )
        self._little_endian = not order or self._file.data(order.start, min(order.size, _ORDER_LIMIT)) != b"big"
        self._extents = {
            name.removeprefix(f"{roots[0]}data/"): member
            for name, member in members.items()
            if name.startswith(f"{roots[0]}data/")
        }
        stream = PickleStream(BytesIO(self._file.data(pickled.start, pickled.size)))
        root = PickleMachine(stream, self._persistent).load()
        for key, storage in self._storages.items():
            extent = self._extents.get(key)
            if extent is None or storage.count * storage.dtype.itemsize > extent.size:
                held = f"{extent.size} bytes" if extent else "nothing"
                raise BadPickle(
                    f"storage '{shown(key, 40)}' of {storage.count} elements, but the file has {held} for it"
                )
        return root

    def _persistent(self, reference: object) -> object:
        """('storage', class, key, device, elements[, view of another storage]) -> Storage.

        Files of torch before 1.6 keep classes of modules so too: ('module', class, file, source code) -> class.
        """
        parts = list((as_sequence(reference) or ())[:7])
        if len(parts) == 4 and parts[0] == "module" and isinstance(parts[1], Global):
            return parts[1]
        if len(parts) not in (5, 6) or parts[0] != "storage":
            raise BadPickle("a reference to something that is no storage")
        kind, key, count, view = parts[1], parts[2], parts[4], parts[5] if len(parts) == 6 else None
        dtype = STORAGES.get(kind.name) if isinstance(kind, Global) and kind.module.startswith("torch") else None
        if dtype is None or type(count) is not int or not 0 <= count < 2**60:
            raise BadPickle("a storage of an unknown kind or size")
        if not isinstance(key, str) or len(key) > _KEY_LIMIT:
            raise BadPickle("a storage without a name, or with one of any length")
        known = self._storages.setdefault(key, Storage(key, dtype, count))
        if (known.dtype, known.count) != (dtype, count):
            raise BadPickle(f"the storage '{shown(key, 40)}' is there with two sizes")
        return known if view is None else _storage_view(known, view)

    def _stored(self, ref: TensorRef) -> Tensor:
        storage = ref.storage
        start = self._extents[storage.key].start + storage.first * storage.dtype.itemsize
        if 0 in ref.shape:
            return torch.empty(ref.shape, dtype=ref.dtype)
        if _is_contiguous(ref):
            tensor = self._file.view(start + ref.offset * ref.dtype.itemsize, ref.dtype, ref.shape)
        else:
            count = storage.count * storage.dtype.itemsize // ref.dtype.itemsize
            tensor = self._file.view(start, ref.dtype, (count,)).as_strided(ref.shape, ref.stride, ref.offset)
        return tensor if self._little_endian else swapped(tensor)


def _storage_view(storage: Storage, view: object) -> Storage:
    key, first, count = (*(as_sequence(view) or ())[:3], None, None, None)[:3]
    if type(first) is not int or type(count) is not int or not 0 <= first <= first + max(count, 0) <= storage.count:
        raise BadPickle(f"a view of the storage '{shown(storage.key, 40)}' that leaves it ({short(key)})")
    return Storage(storage.key, storage.dtype, count, first)


def _is_contiguous(ref: TensorRef) -> bool:
    expected = 1
    for side, step in zip(reversed(ref.shape), reversed(ref.stride), strict=True):
        if side != 1 and step != expected:
            return False
        expected *= side
    return True


def _problems(
    tensors: Mapping[str, TensorRef | ArrayRef], storages: Mapping[str, Storage], file_size: int
) -> dict[str, str]:
    """Why some tensors cannot be read, by name.

    Expanded tensors, and many tensors or arrays of the same bytes, are many numbers of few bytes: together they may not
    make a small file a large model.
    """
    problems: dict[str, str] = {}
    unused: dict[object, int] = {key: storage.nbytes for key, storage in storages.items()}
    left = max(_COPIES * file_size, _REPEATED_LIMIT)
    for name, entry in tensors.items():
        if isinstance(entry, TensorRef):
            key, nbytes, problem = entry.storage.key, entry.nbytes, entry.problem
        else:
            key, nbytes, problem = id(entry.data), len(entry.data), ""
            unused.setdefault(key, nbytes)
        repeated = max(0, nbytes - unused[key])
        unused[key] = max(0, unused[key] - nbytes)
        if repeated > left:
            problems[name] = f"of shape {short(entry.shape)} repeats numbers: save it after contiguous().clone()"
        else:
            left -= repeated
        if problem:
            problems[name] = problem
    return problems
