"""Writing Flax's msgpack files tensor by tensor: memory holds a slice, never a model.

The format is that of `formats.flax` (https://github.com/msgpack/msgpack/blob/master/spec.md): dictionaries in
dictionaries, and arrays as extension 1, a triple of shape, dtype name and bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, BinaryIO

import torch

from ...errors import OutputError
from .safetensors import Item, Progress

SUFFIX = ".msgpack"
_LARGEST = (1 << 32) - 1024  # bytes of an array that one extension holds


def write_msgpack(file: BinaryIO, items: Sequence[Item], progress: Progress | None = None) -> None:
    """Write a whole file of these tensors, whose names tell by their dots which dictionary they are in.

    Raises OutputError for a tensor that is too large for the format.
    """
    tree: dict[str, Any] = {}
    for entry in items:
        *path, leaf = entry.name.split(".")
        branch = tree
        for name in path:
            branch = branch.setdefault(name, {})
        branch[leaf] = entry
    _write(file, tree, progress)


def _write(file: BinaryIO, value: dict[str, Any] | Item, progress: Progress | None) -> None:
    if isinstance(value, Item):
        _write_array(file, value, progress)
        return
    file.write(b"\xdf" + len(value).to_bytes(4, "big"))
    for name, inner in value.items():
        file.write(_text(name))
        _write(file, inner, progress)


def _write_array(file: BinaryIO, entry: Item, progress: Progress | None) -> None:
    size = entry.nbytes
    if size > _LARGEST:
        raise OutputError(f"'{entry.name}' has {size} bytes, more than a Flax file holds in one array")
    shape = b"\xdd" + len(entry.shape).to_bytes(4, "big")
    shape += b"".join(b"\xcf" + side.to_bytes(8, "big") for side in entry.shape)
    head = b"\x93" + shape + _text(str(entry.dtype).removeprefix("torch."))
    head += b"\xc6" + size.to_bytes(4, "big")
    file.write(b"\xc9" + (len(head) + size).to_bytes(4, "big") + b"\x01" + head)
    for _, piece in entry.slices():
        file.write(piece.contiguous().view(torch.uint8).numpy().data)
        if progress:
            progress(piece.nbytes)


def _text(text: str) -> bytes:
    data = text.encode()
    return b"\xdb" + len(data).to_bytes(4, "big") + data
