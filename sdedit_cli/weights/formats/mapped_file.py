"""Files mapped into memory, and tensors that are views of the mapping.

A mapped file is there twice in address space and once in memory. The first mapping is the source of truth: readers
hand out views of it that nobody writes to. The second is copy-on-write and is what a module's parameters are made of:
an adapter that is merged into them changes private pages, and the source can still give back the original bits.

The system ends a process that touches a mapped page whose file was cut meanwhile. Each view is therefore given out
after a look at the file, and loads look once more when they are done. Where that is not enough, on storage that comes
and goes, `reading(whole=True)` has files read into memory at once.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from io import BufferedReader
from math import prod
from pathlib import Path
from weakref import WeakValueDictionary

import torch
from torch import Tensor

from ...errors import ModelError

_live: WeakValueDictionary[int, MappedFile] = WeakValueDictionary()  # by the address of the first mapping
# Not an argument: how files are read is the machine's matter, and every reader of every format would hand it on.
_whole: ContextVar[bool] = ContextVar("whole", default=False)
_BLOCK = 1 << 26


@contextmanager
def reading(*, whole: bool) -> Generator[None, None, None]:
    """Within it, in this thread, files that are opened are read into memory at once (`whole`), or mapped."""
    before = _whole.set(whole)
    try:
        yield
    finally:
        _whole.reset(before)


class MappedFile:
    """A file's bytes, mapped. `view` gives tensors, `data` gives bytes.

    Raises ModelError for empty and unreadable files, and for one that changes while it is read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with path.open("rb") as file:
                self._stamp = _stamp(os.fstat(file.fileno()))
                if _whole.get():
                    self._truth, self._private = _read(file, self._stamp[0]), None
                    self.check_unchanged()
                else:
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
        """The tensor whose bytes begin at `start`: no copy, unless its address would not suit the dtype.

        Raises ModelError when the file has changed since it was opened.
        """
        if self._private is not None:
            self.check_unchanged()
        return _tensor(self._truth, start, dtype, shape, self._address)

    def check_unchanged(self) -> None:
        """Raises ModelError when another file has its name, or it has another size or time than when it was opened."""
        try:
            now = _stamp(os.stat(self.path))
        except OSError as problem:
            raise self._changed(f"it is gone: {problem.strerror}") from None
        if now != self._stamp:
            sizes = f"from {self._stamp[0]} to {now[0]} bytes" if now[0] != self._stamp[0] else "its time is another"
            raise self._changed(sizes)

    def check_whole(self) -> None:
        """Raises ModelError when the file was cut since it was opened: who touched its end would be ended."""
        if self._private is not None and (now := self._truth.size()) < self.size:
            raise self._changed(f"from {self.size} to {now} bytes")

    def _changed(self, how: str) -> ModelError:
        return ModelError(
            f"{self.path}: has changed while it was in use ({how}); try again when it is whole, and read it from a "
            "local disk, or with --no-mmap"
        )

    def offset_of(self, tensor: Tensor) -> int:
        return tensor.data_ptr() - self._address

    def holds(self, tensor: Tensor) -> bool:
        return 0 <= self.offset_of(tensor) <= self.size - tensor.nbytes

    def private_view(self, tensor: Tensor) -> Tensor:
        """The same bytes as `tensor` (a view of this file) in storage that may be written to."""
        if self._private is None:
            return tensor.clone(memory_format=torch.contiguous_format)
        return _tensor(self._private, self.offset_of(tensor), tensor.dtype, tensor.shape, self._address)

    def release(self, tensor: Tensor) -> None:
        """Give the memory of a tensor's pages back; they are read from the file again when they are touched again."""
        # Windows trims the working set on its own; what was read into memory is nowhere else.
        if self._private is None or not hasattr(mmap, "MADV_DONTNEED"):
            return
        start = self.offset_of(tensor)
        first = start - start % mmap.PAGESIZE
        self._truth.madvise(mmap.MADV_DONTNEED, first, min(start + tensor.nbytes, self.size) - first)


def _stamp(status: os.stat_result) -> tuple[int, int, int, int]:
    """What is another when a file has changed, its size first."""
    return status.st_size, status.st_mtime_ns, status.st_ino, status.st_dev


def _read(file: BufferedReader, size: int) -> mmap.mmap:
    """The bytes of a file in memory of no file's. Raises ValueError for an empty one, OSError for one that is cut."""
    if not size:
        raise ValueError
    held = mmap.mmap(-1, size, **({"access": mmap.ACCESS_COPY} if os.name == "posix" else {}))
    view, at = memoryview(held), 0
    with view:
        while at < size:
            with view[at : at + _BLOCK] as block:
                count = file.readinto(block)
            if not count:
                raise OSError(f"it ends at byte {at} of {size}")
            at += count
    return held


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


def files_of(tensors: Iterable[Tensor]) -> set[MappedFile]:
    """The mapped files that tensors are views of."""
    return {file for tensor in tensors if (file := mapped_file_of(tensor)) is not None}


def adopt(tensor: Tensor) -> Tensor:
    """The same values in storage that may be written to: without a copy when they lie in a mapped file."""
    mapped = mapped_file_of(tensor)
    return mapped.private_view(tensor) if mapped else tensor.clone(memory_format=torch.contiguous_format)


def release(tensor: Tensor) -> None:
    """Let go of the memory behind a source's tensor after its values were copied elsewhere."""
    mapped = mapped_file_of(tensor)
    if mapped:
        mapped.release(tensor)
