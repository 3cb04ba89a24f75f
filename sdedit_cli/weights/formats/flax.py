"""Reader of Flax checkpoints: msgpack with arrays as extension types, as flax.serialization writes them.

Extension 1 is an array and 3 a numpy scalar, each a msgpack triple (shape, dtype name, bytes); 2 is a complex number.
Arrays above a gigabyte are split: {'__msgpack_chunked_array__': True, 'shape': {...}, 'chunks': {...}}.
Format: https://github.com/msgpack/msgpack/blob/master/spec.md. Array bytes stay in the mapped file.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from ...errors import ModelError
from .mapped_file import MappedFile
from .shapes import is_possible, sides
from .source import EntrySource

DEPTH_LIMIT = 64
NAME_LIMIT = 1024
ITEM_LIMIT = 500_000  # a Stable Diffusion model has some 15,000
_CHUNKED = "__msgpack_chunked_array__"

_DTYPES: dict[str, torch.dtype] = {
    "bool": torch.bool,
    "bfloat16": torch.bfloat16,
    **{name: getattr(torch, name) for name in ("float16", "float32", "float64", "int8", "int16", "int32", "int64")},
    **{name: getattr(torch, name) for name in ("uint8", "uint16", "uint32", "uint64")},
}

# First byte -> width of the length that follows, by what it begins.
_TEXTS = {0xD9: 1, 0xDA: 2, 0xDB: 4}
_BINARIES = {0xC4: 1, 0xC5: 2, 0xC6: 4}
_ARRAYS = {0xDC: 2, 0xDD: 4}
_MAPS = {0xDE: 2, 0xDF: 4}
_EXTENSIONS = {0xC7: 1, 0xC8: 2, 0xC9: 4}
_FIXED_EXTENSIONS = {0xD4: 1, 0xD5: 2, 0xD6: 4, 0xD7: 8, 0xD8: 16}
_NUMBERS = {
    0xCA: ">f", 0xCB: ">d",
    0xCC: ">B", 0xCD: ">H", 0xCE: ">I", 0xCF: ">Q",
    0xD0: ">b", 0xD1: ">h", 0xD2: ">i", 0xD3: ">q",
}  # fmt: skip
_CONSTANTS = {0xC0: None, 0xC2: False, 0xC3: True}


@dataclass(frozen=True)
class Binary:
    """Bytes that stay in the file."""

    start: int
    size: int


@dataclass(frozen=True)
class Array:
    """An array whose bytes are in the file, in one piece or several."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    pieces: tuple[Binary, ...]


class FlaxSource(EntrySource[Array]):
    """A WeightSource on a mapped msgpack file: Flax's own names joined by dots, and Flax's own array layouts."""

    format = "flax"

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = MappedFile(path)
        reader = _Reader(self._file)
        root = reader.value(0)
        if not isinstance(root, dict):
            raise reader.broken("does not hold a dictionary")
        if reader.position != self._file.size:
            raise reader.broken(f"{self._file.size - reader.position} bytes follow the last value")
        tree = cast("dict[str, object]", root)
        inner = tree.get("params")  # what Flax calls all variables that are trained
        if isinstance(inner, dict) and len(tree) == 1:
            tree = cast("dict[str, object]", inner)
        found = _flatten(tree, "", reader)
        self._entries = dict(found)
        if not found:
            raise reader.broken("holds no arrays")
        if len(self._entries) < len(found):  # {'a.b': ..., 'a': {'b': ...}}
            raise reader.broken("two of its arrays have the same name once the parts of names are joined by dots")

    def get(self, name: str) -> Tensor:
        array = self._entry(name)
        if len(array.pieces) == 1:
            return self._file.view(array.pieces[0].start, array.dtype, array.shape)
        width = array.dtype.itemsize
        flat = [self._file.view(piece.start, array.dtype, (piece.size // width,)) for piece in array.pieces]
        return torch.cat(flat).view(array.shape)


class _Reader:
    """Walks the file once; `position` is where it is."""

    def __init__(self, file: MappedFile) -> None:
        self._file = file
        self._items = 0
        self.position = 0

    def broken(self, problem: str) -> ModelError:
        return ModelError(f"{self._file.path}: not a usable Flax checkpoint: {problem}")

    def value(self, depth: int) -> object:
        self._items += 1
        if depth > DEPTH_LIMIT or self._items > ITEM_LIMIT:
            raise self.broken("nested or split beyond what a model needs")
        code = self._take(1)[0]
        if code < 0x80 or code >= 0xE0:
            return code if code < 0x80 else code - 256
        if code < 0x90:
            return self._map(code & 0x0F, depth)
        if code < 0xA0:
            return [self.value(depth + 1) for _ in range(code & 0x0F)]
        if code < 0xC0:
            return self._text(code & 0x1F)
        if code in _CONSTANTS:
            return _CONSTANTS[code]
        if code in _NUMBERS:
            return struct.unpack(_NUMBERS[code], self._take(struct.calcsize(_NUMBERS[code])))[0]
        return self._sized(code, depth)

    def _sized(self, code: int, depth: int) -> object:
        if code in _TEXTS:
            return self._text(self._length(_TEXTS[code]))
        if code in _BINARIES:
            return self._binary(self._length(_BINARIES[code]))
        if code in _MAPS:
            return self._map(self._length(_MAPS[code]), depth)
        if code in _ARRAYS:
            return [self.value(depth + 1) for _ in range(self._count(self._length(_ARRAYS[code])))]
        if code in _FIXED_EXTENSIONS:
            return self._extension(_FIXED_EXTENSIONS[code], depth)
        if code in _EXTENSIONS:
            return self._extension(self._length(_EXTENSIONS[code]), depth)
        raise self.broken(f"the unknown code 0x{code:02X} at byte {self.position - 1}")

    def _take(self, size: int) -> bytes:
        return self._file.data(self._skip(size), size)

    def _skip(self, size: int) -> int:
        """The place of the next `size` bytes, which are passed over. Raises ModelError when the file ends before."""
        start = self.position
        if start + size > self._file.size:
            raise self.broken(f"{size} bytes wanted at byte {start} of {self._file.size}: cut short?")
        self.position += size
        return start

    def _length(self, width: int) -> int:
        return int.from_bytes(self._take(width), "big")

    def _count(self, count: int) -> int:
        """A number of items, each of which takes a byte at least."""
        if count > self._file.size - self.position:
            raise self.broken(f"{count} items at byte {self.position} of {self._file.size}: cut short?")
        return count

    def _text(self, size: int) -> str:
        return self._take(size).decode("utf-8", "backslashreplace")

    def _binary(self, size: int) -> Binary:
        return Binary(self._skip(size), size)

    def _map(self, count: int, depth: int) -> dict[str, object]:
        entries: dict[str, object] = {}
        for _ in range(self._count(count)):
            key = self.value(depth + 1)
            if not isinstance(key, (str, int)) or str(key) in entries:
                raise self.broken(f"a key before byte {self.position} is no name, or there twice")
            entries[str(key)] = self.value(depth + 1)
        return entries

    def _extension(self, size: int, depth: int) -> object:
        kind, end = self._take(1)[0], self.position + size
        if kind not in (1, 3):
            return self._binary(size)
        content = self.value(depth + 1)
        parts = cast("list[object]", content) if isinstance(content, list) else []
        if self.position != end or len(parts) != 3:
            raise self.broken(f"an array before byte {end} has no shape, dtype and bytes")
        return self._array(*parts)

    def _array(self, shape: object, dtype: object, data: object) -> Array:
        size = _shape(shape)
        kind = _DTYPES.get(dtype.decode() if isinstance(dtype, bytes) else str(dtype))
        if size is None or kind is None or not isinstance(data, Binary):
            raise self.broken(f"an array before byte {self.position} of shape {shape!s:.40} and dtype {dtype!s:.20}")
        if prod(size) * kind.itemsize != data.size:
            raise self.broken(f"an array of shape {list(size)[:8]} and dtype {dtype} in {data.size} bytes")
        return Array(size, kind, (data,))


def _shape(value: object) -> tuple[int, ...] | None:
    found = sides(value)
    return found if found is not None and is_possible(found) else None


def _flatten(tree: dict[str, object], prefix: str, reader: _Reader) -> list[tuple[str, Array]]:
    found: list[tuple[str, Array]] = []
    for name, value in tree.items():
        if len(prefix) + len(name) >= NAME_LIMIT:
            raise reader.broken(f"a name of more than {NAME_LIMIT} characters")
        if isinstance(value, Array):
            found.append((prefix + name, value))
        elif isinstance(value, dict):
            branch = cast("dict[str, object]", value)
            if branch.get(_CHUNKED) is True:
                found.append((prefix + name, _joined(branch, reader)))
            else:
                found += _flatten(branch, f"{prefix}{name}.", reader)
    return found


def _joined(branch: dict[str, object], reader: _Reader) -> Array:
    """A split array: its shape and pieces are dictionaries by number."""
    shape = _shape(_by_number(branch.get("shape")))
    chunks = [chunk for chunk in _by_number(branch.get("chunks")) if isinstance(chunk, Array)]
    dtypes = {chunk.dtype for chunk in chunks}
    if shape is None or len(dtypes) != 1 or sum(prod(chunk.shape) for chunk in chunks) != prod(shape):
        raise reader.broken("the pieces of a split array do not fit its shape")
    return Array(shape, dtypes.pop(), tuple(piece for chunk in chunks for piece in chunk.pieces))


def _by_number(value: object) -> list[object]:
    if not isinstance(value, dict):
        return []
    entries = cast("dict[str, object]", value)
    return [entries[key] for key in sorted(entries, key=lambda key: (len(key), key))]
