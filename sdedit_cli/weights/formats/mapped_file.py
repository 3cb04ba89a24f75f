"""Files mapped into memory, and tensors that are views of the mapping.

A mapped file is there twice in address space and once in memory. The first mapping is the source of truth: readers
hand out views of it that nobody writes to. The second is copy-on-write and is what a module's parameters are made of:
an adapter that is merged into them changes private pages, and the source can still give back the original bits.
"""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from math import prod
from pathlib import Path
from weakref import WeakValueDictionary

import torch
from torch import Tensor

from ...errors import ModelError

_live: WeakValueDictionary[int, MappedFile] = WeakValueDictionary()  # by the address of the first mapping


class MappedFile:
    """A file's bytes, mapped. `view` gives tensors, `data` gives bytes; empty and unreadable files are a ModelError."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with path.open("rb") as file:
                self._truth = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
                self._private = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        except FileNotFoundError:
            raise ModelError(f"{path}: no such file") from None
        except IsADirectoryError:
            raise ModelError(f"{path}: is a folder, expected a weights file") from None
        except ValueError:
            raise ModelError(f"{path}: is empty (0 bytes); download or copy it again") from None
        except OSError as error:
            raise ModelError(f"{path}: cannot be read ({error.strerror or error})") from None
        self.size = len(self._truth)
        self._address = torch.frombuffer(self._truth, dtype=torch.uint8, count=1).data_ptr()
        _live[self._address] = self

    def data(self, start: int, length: int) -> bytes:
        return self._truth[start : start + length]

    @property
    def buffer(self) -> mmap.mmap:
        """The whole file as a buffer, for parsers that walk it. Not to be written to."""
        return self._truth

    def view(self, start: int, dtype: torch.dtype, shape: Sequence[int]) -> Tensor:
        """The tensor whose bytes begin at `start`: no copy, unless its address would not suit the dtype."""
        return _tensor(self._truth, start, dtype, shape, self._address)

    def offset_of(self, tensor: Tensor) -> int:
        return tensor.data_ptr() - self._address

    def holds(self, tensor: Tensor) -> bool:
        return 0 <= self.offset_of(tensor) <= self.size - tensor.nbytes

    def private_view(self, tensor: Tensor) -> Tensor:
        """The same bytes as `tensor` (a view of this file) in the copy-on-write mapping."""
        return _tensor(self._private, self.offset_of(tensor), tensor.dtype, tensor.shape, self._address)

    def release(self, tensor: Tensor) -> None:
        """Give the memory of a tensor's pages back; they are read from the file again when they are touched again."""
        if not hasattr(mmap, "MADV_DONTNEED"):  # Windows trims the working set on its own
            return
        start = self.offset_of(tensor)
        first = start - start % mmap.PAGESIZE
        self._truth.madvise(mmap.MADV_DONTNEED, first, min(start + tensor.nbytes, self.size) - first)


def _tensor(buffer: mmap.mmap, start: int, dtype: torch.dtype, shape: Sequence[int], address: int) -> Tensor:
    count = prod(shape)
    if count == 0:
        return torch.empty(tuple(shape), dtype=dtype)
    if (address + start) % dtype.itemsize == 0:
        return torch.frombuffer(buffer, dtype=dtype, count=count, offset=start).view(tuple(shape))
    raw = torch.frombuffer(buffer, dtype=torch.uint8, count=count * dtype.itemsize, offset=start)
    return raw.clone().view(dtype).view(tuple(shape))


def mapped_file_of(tensor: Tensor) -> MappedFile | None:
    """The mapped file that a contiguous CPU tensor is a view of, if it is one."""
    if tensor.device.type != "cpu" or tensor.numel() == 0 or not tensor.is_contiguous():
        return None
    # A list of references: other threads may open and let go of files meanwhile.
    files = (reference() for reference in _live.valuerefs())
    return next((file for file in files if file is not None and file.holds(tensor)), None)


def adopt(tensor: Tensor) -> Tensor:
    """The same values in storage that may be written to: without a copy when they lie in a mapped file."""
    mapped = mapped_file_of(tensor)
    return mapped.private_view(tensor) if mapped else tensor.clone(memory_format=torch.contiguous_format)


def release(tensor: Tensor) -> None:
    """Let go of the memory behind a source's tensor after its values were copied elsewhere."""
    mapped = mapped_file_of(tensor)
    if mapped:
        mapped.release(tensor)
