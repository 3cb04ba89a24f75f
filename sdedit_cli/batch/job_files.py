"""The bytes and lines of a list of jobs, as UTF-8 whatever program saved it."""

from __future__ import annotations

import codecs
import io
import os
from collections.abc import Iterator
from typing import BinaryIO

from ..disk.checks import endless
from ..errors import JobFileError, shortened

MAX_BYTES = 256_000_000
_BLOCK = 1 << 20
_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def read_list(path: str, most: int = MAX_BYTES) -> bytes:
    """What a list of jobs holds, in UTF-8 without the mark that editors begin it with.

    UTF-16 is told by its mark (spreadsheets and PowerShell write it). Raises JobFileError for what is not there, cannot
    be read, may never end, or has more than `most` bytes.
    """
    shown = shortened(path)
    try:
        if words := endless(os.stat(path), path):
            raise JobFileError(f"{shown}: is {words}; expected a list of jobs")
        with open(path, "rb") as file:
            data = _bounded(file, most)
    except FileNotFoundError:
        raise JobFileError(f"{shown}: no such file") from None
    except MemoryError:
        raise JobFileError(f"{shown}: does not fit into memory; split the list") from None
    except (OSError, ValueError) as problem:
        raise JobFileError(f"{shown}: cannot be read ({getattr(problem, 'strerror', None) or problem})") from None
    if len(data) > most:
        raise JobFileError(f"{shown}: has more than {most / 1e6:g} MB; split the list")
    if data.startswith(_UTF_16):
        try:
            data = data.decode("utf-16").encode("utf-8", "surrogatepass")
        except UnicodeDecodeError:
            raise JobFileError(f"{shown}: begins as UTF-16 and is damaged; save it as UTF-8") from None
    return data.removeprefix(codecs.BOM_UTF8)


def _bounded(file: BinaryIO, most: int) -> bytes:
    """All bytes, or some more than `most`; a file may grow, and a pipe does not say how long it is."""
    held = io.BytesIO()
    while held.tell() <= most and (block := file.read(_BLOCK)):
        held.write(block)
    return held.getvalue()


def lines_of(data: bytes) -> Iterator[str]:
    """The lines with their ends: LF, CRLF, or CR alone.

    Bytes that are no UTF-8 stay as they are in the names of files, which may have any; options refuse them.
    """
    return io.TextIOWrapper(io.BytesIO(data), "utf-8", "surrogateescape", newline="")


def encoding_note(data: bytes, path: str) -> tuple[str, ...]:
    """A note where the bytes are no UTF-8, with the first line that is not."""
    try:
        codecs.decode(data, "utf-8")
    except UnicodeDecodeError as problem:
        before = data[: problem.start]
        line = 1 + before.count(b"\n") + before.count(b"\r") - before.count(b"\r\n")
        return (f"{shortened(path)}: line {line} is not UTF-8 text; save it as UTF-8 (in Excel: 'CSV UTF-8')",)
    return ()
