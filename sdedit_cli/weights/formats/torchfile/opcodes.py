"""The operations of a pickle, decoded by `pickletools` of the standard library from bytes that are bounded."""

from __future__ import annotations

import os
from collections.abc import Iterator
from io import BytesIO
from mmap import mmap
from pickletools import genops
from typing import IO, Any, cast

from ....errors import shown
from .values import BadPickle

# Names and numbers are lines; int() takes time by the square of their length. Text of protocol 0 is a line too, and
# an array may be one of any length.
_LINE_LIMIT = 1024
_TEXT_LINE = b"V"


class PickleStream:
    """The bytes of a file, as `genops` reads them: pickle after pickle, each from where the one before it ended.

    Nothing is read on a file's word: `read` gives what there is, and `genops` says what is missing.
    """

    def __init__(self, source: BytesIO | mmap) -> None:
        self._source = source
        source.seek(0, os.SEEK_END)
        self.size = source.tell()
        source.seek(0)
        self.read, self.tell = source.read, source.tell

    def readline(self) -> bytes:
        start = self.tell()
        self._source.seek(start - 1)
        if self.read(1) == _TEXT_LINE:
            return self._source.readline()
        line = self.read(_LINE_LIMIT)
        line = line[: line.find(b"\n") + 1]
        self._source.seek(start + len(line))
        return line

    def operations(self) -> Iterator[tuple[str, Any]]:
        """Name and argument of each operation of the next pickle, up to its STOP. Raises BadPickle for damage."""
        try:
            for opcode, argument, _ in genops(cast("IO[bytes]", self)):
                yield opcode.name, argument
        except (ValueError, OverflowError, Warning) as error:  # a warning, where those are errors: of an unknown escape
            raise BadPickle(f"damaged or cut short before byte {self.tell()}: {shown(str(error), 120)}") from None
