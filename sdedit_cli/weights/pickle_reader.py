"""A WeightSource from .ckpt, .pt, .pth and .bin files: torch's zip archives, its older files, and bare pickles."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import prod
from pathlib import Path

import torch
from torch import Tensor

from ..errors import ModelError, UnsafeFileError, shown
from .legacy_torch import Extent, read_legacy
from .mapping import MappedFile
from .pickle_machine import PickleMachine
from .pickle_names import STORAGES
from .pickle_values import ArrayRef, BadPickle, Global, Placeholder, Storage, TensorRef, as_dict, as_sequence
from .torch_zip import Member, read_members

WRAPPERS = ("state_dict", "params_ema", "model", "module", "params", "net")
ENTRY_LIMIT = 1_000_000
DEPTH_LIMIT = 64
NAME_LIMIT = 1024
DIMENSION_LIMIT = 32

_NUMPY_DTYPES: dict[str, torch.dtype] = {
    "f2": torch.float16,
    "f4": torch.float32,
    "f8": torch.float64,
    "i1": torch.int8,
    "i2": torch.int16,
    "i4": torch.int32,
    "i8": torch.int64,
    "u1": torch.uint8,
    "u2": torch.uint16,
    "u4": torch.uint32,
    "u8": torch.uint64,
    "b1": torch.bool,
}


class PickleSource:
    """The tensors of a pickled checkpoint, read when asked for; nothing that the file names is ever imported or called.

    `extras` is what lies beside the tensors (`global_step` and the like, as plain values, or the name of their class);
    `root` is the whole object, of the inert values of `pickle_values`, for formats that keep more than a state dict.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.metadata: Mapping[str, str] = {}
        self._file = MappedFile(path)
        self._storages: dict[str, Storage] = {}
        self._extents: Mapping[str, Extent | Member] = {}
        self._little_endian = True
        try:
            self.root = self._read()
            self._tensors, self.extras = contents(self.root)
        except BadPickle as error:
            raise ModelError(f"{path}: not a usable pickle: {error}") from None
        except UnsafeFileError as error:
            raise UnsafeFileError(f"{path}: {error}") from None
        if not self._tensors:
            found = ", ".join(shown(name, 40) for name in list(self.extras)[:6])
            raise ModelError(f"{path}: holds no tensors (found: {found or 'nothing'})")

    def names(self) -> list[str]:
        return list(self._tensors)

    def shape(self, name: str) -> tuple[int, ...]:
        return self._entry(name).shape

    def dtype(self, name: str) -> torch.dtype:
        entry = self._entry(name)
        return entry.dtype if isinstance(entry, TensorRef) else _numpy_dtype(entry)

    def get(self, name: str) -> Tensor:
        return self.tensor(self._entry(name))

    def tensor(self, entry: TensorRef | ArrayRef) -> Tensor:
        """The tensor behind an entry of `root`: a view of the file where its layout allows."""
        return self._stored(entry) if isinstance(entry, TensorRef) else _from_array(entry)

    def _entry(self, name: str) -> TensorRef | ArrayRef:
        try:
            return self._tensors[name]
        except KeyError:
            raise ModelError(f"{self.path}: holds no tensor '{shown(name)}'") from None

    def _read(self) -> object:
        if self._file.data(0, 4) == b"PK\x03\x04":
            return self._read_zip()
        found, self._extents = read_legacy(self._file, self._persistent, self._storages)
        self._little_endian = found.little_endian
        missing = set(self._storages) - set(self._extents)
        if missing:
            raise BadPickle(f"the storage '{min(missing)[:40]}' is not in the file")
        return found.root

    def _read_zip(self) -> object:
        members = read_members(self._file)
        roots = [name.removesuffix("data.pkl") for name in members if name.endswith("/data.pkl")]
        if len(roots) != 1:
            raise ModelError(f"{self.path}: is a zip archive but no torch checkpoint (it has no data.pkl of its own)")
        if f"{roots[0]}constants.pkl" in members:
            raise UnsafeFileError("is a TorchScript program; expected plain weights (a state dict)")
        pickled, order = members[f"{roots[0]}data.pkl"], members.get(f"{roots[0]}byteorder")
        self._little_endian = order is None or self._file.data(order.start, order.size) != b"big"
        self._extents = {
            name.removeprefix(f"{roots[0]}data/"): member
            for name, member in members.items()
            if name.startswith(f"{roots[0]}data/")
        }
        root = PickleMachine(self._file.data(pickled.start, pickled.size), 0, self._persistent).load()
        for key, storage in self._storages.items():
            extent = self._extents.get(key)
            if extent is None or storage.count * storage.dtype.itemsize > extent.size:
                held = f"{extent.size} bytes" if extent else "nothing"
                raise BadPickle(f"storage '{key[:40]}' of {storage.count} elements, but the file has {held} for it")
        return root

    def _persistent(self, reference: object) -> object:
        """('storage', class, key, device, elements[, view of another storage]) -> Storage."""
        parts = list(as_sequence(reference) or [])
        if len(parts) not in (5, 6) or parts[0] != "storage":
            raise BadPickle("a reference to something that is no storage")
        kind, key, count, view = parts[1], parts[2], parts[4], parts[5] if len(parts) == 6 else None
        dtype = STORAGES.get(kind.name) if isinstance(kind, Global) and kind.module.startswith("torch") else None
        if dtype is None or not isinstance(key, str) or type(count) is not int or not 0 <= count < 2**60:
            raise BadPickle("a storage of an unknown kind or size")
        known = self._storages.setdefault(key, Storage(key, dtype, count))
        if (known.dtype, known.count) != (dtype, count):
            raise BadPickle(f"the storage '{key[:40]}' is there with two sizes")
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
        return tensor if self._little_endian else _swapped(tensor)


def _storage_view(storage: Storage, view: object) -> Storage:
    key, first, count = (*(as_sequence(view) or ()), None, None, None)[:3]
    if type(first) is not int or type(count) is not int or not 0 <= first <= first + max(count, 0) <= storage.count:
        raise BadPickle(f"a view of the storage '{storage.key[:40]}' that leaves it ({key!s:.20})")
    return Storage(storage.key, storage.dtype, count, first)


def contents(root: object) -> tuple[dict[str, TensorRef | ArrayRef], dict[str, object]]:
    """The tensors by dotted name and everything else by its first name, without a wrapper such as state_dict."""
    top = dict(_children(root))
    for wrapper in WRAPPERS:
        inner = {name: entry for name, entry in _tensors(top.get(wrapper)) if isinstance(entry, TensorRef)}
        if inner:
            return dict(inner), {name: _plain(value) for name, value in top.items() if name != wrapper}
    entries = dict(_tensors(root))
    used = {name.split(".", 1)[0] for name in entries} | set(entries)
    return entries, {name: _plain(value) for name, value in top.items() if name not in used}


def _children(value: object) -> Iterator[tuple[str, object]]:
    """The named parts of a dict or of a pickled module."""
    entries = as_dict(value)
    if entries is None and isinstance(value, Placeholder):
        state = as_dict(value.state) or {}
        for group in ("_parameters", "_buffers", "_modules"):
            yield from _children(as_dict(state.get(group)))
        entries = value.entries
    for name, child in (entries or {}).items():
        if isinstance(name, (str, int)):
            yield str(name), child


def _tensors(value: object) -> Iterator[tuple[str, TensorRef | ArrayRef]]:
    """Tensors below `value` with dotted names. Iterative and counted: containers may hold themselves, or each other."""
    pending = [("", value, 0)]
    seen = 0
    while pending:
        prefix, current, depth = pending.pop()
        for name, child in reversed(list(_children(current))):
            seen += 1
            if seen > ENTRY_LIMIT or depth > DEPTH_LIMIT:
                raise BadPickle("containers that hold each other without end")
            if len(prefix) + len(name) >= NAME_LIMIT:
                raise BadPickle(f"a name of more than {NAME_LIMIT} characters")
            pending.append((f"{prefix}.{name}" if prefix else name, child, depth + 1))
        if isinstance(current, TensorRef) or (isinstance(current, ArrayRef) and current.shape and _is_sound(current)):
            yield prefix, current


def _plain(value: object) -> object:
    if isinstance(value, (str, int, float, bool, type(None))):
        return value
    if isinstance(value, ArrayRef) and not value.shape and value.data and _is_sound(value):
        return _from_array(value).item()
    return value.of.dotted if isinstance(value, Placeholder) else type(value).__name__


def _is_contiguous(ref: TensorRef) -> bool:
    expected = 1
    for side, step in zip(reversed(ref.shape), reversed(ref.stride), strict=True):
        if side != 1 and step != expected:
            return False
        expected *= side
    return True


def _swapped(tensor: Tensor) -> Tensor:
    width = tensor.dtype.itemsize // (2 if tensor.dtype.is_complex else 1)
    raw = tensor.contiguous().view(-1).view(torch.uint8).view(-1, width)
    return raw.flip(1).contiguous().view(-1).view(tensor.dtype).view(tensor.shape)


def _numpy_dtype(array: ArrayRef) -> torch.dtype:
    return _NUMPY_DTYPES[array.dtype.lstrip("<>|=")]


def _is_sound(array: ArrayRef) -> bool:
    """Whether this is an array of numbers, not of objects or text. Raises BadPickle when bytes and shape differ."""
    if array.dtype.lstrip("<>|=") not in _NUMPY_DTYPES:
        return False
    if len(array.shape) > DIMENSION_LIMIT or any(side >= 2**62 for side in array.shape):
        raise BadPickle(f"a numpy array of {len(array.shape)} dimensions, or with a side of 2**62 or more")
    if prod(array.shape) * _numpy_dtype(array).itemsize != len(array.data):
        raise BadPickle(f"a numpy array of shape {list(array.shape)[:8]} in {len(array.data)} bytes")
    return True


def _from_array(array: ArrayRef) -> Tensor:
    dtype = _numpy_dtype(array)
    if not array.data:
        return torch.empty(array.shape, dtype=dtype)
    flat = torch.frombuffer(bytearray(array.data), dtype=dtype)
    if array.dtype.startswith(">"):
        flat = _swapped(flat)
    if not array.fortran:
        return flat.view(array.shape)
    return flat.view(array.shape[::-1]).permute(*range(len(array.shape) - 1, -1, -1))
