"""The bytes of an input, wherever it is: regular files, stdin and pipes, never more of them than a limit."""

from __future__ import annotations

import glob
import io
import os
import stat
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO, cast

from ..disk.checks import endless
from ..disk.sizes import rounded
from ..errors import OutOfMemory, PictureError, UsageError, shortened
from .refusals import folder_hint

MAX_MEGABYTES = 1024.0
MEGABYTES_VARIABLE = "SDEDIT_MAX_MEGABYTES"
STDIN = "-"
_BLOCK = 1 << 20
_HIGHEST_LIMIT = 1e9


def byte_limit(variables: Mapping[str, str]) -> int:
    """The most bytes of one input: $SDEDIT_MAX_MEGABYTES, or 1024 million. Raises UsageError."""
    return int(limit_of(variables, MEGABYTES_VARIABLE, MAX_MEGABYTES) * 1e6)


def limit_of(variables: Mapping[str, str], name: str, default: float) -> float:
    """The number above 0 that a variable of the environment holds; the default where it is not set. UsageError."""
    text = variables.get(name) or str(default)
    try:
        limit = float(text)
    except ValueError:
        limit = 0.0
    if not 0 < limit <= _HIGHEST_LIMIT:
        expected = f"expected a number above 0, at most {_HIGHEST_LIMIT:g}"
        raise UsageError(f"{name} is '{shortened(text, 40)}'; {expected}")
    return limit


def read_bytes(source: str) -> bytes:
    """The bytes of a file or pipe, or of stdin for '-'; nothing is read of what could have no end.

    Raises PictureError for what is not there, cannot be read, is no file, or is over the limit of `byte_limit`.
    """
    limit = byte_limit(os.environ)
    shown = "stdin" if source == STDIN else shortened(source)
    try:
        if source == STDIN:
            if sys.stdin is None:  # pyright: ignore[reportUnnecessaryComparison]  (so it is when started with it closed)
                raise PictureError("stdin is closed; '-' reads a picture from it")
            return _from_stdin(limit)
        check_source(source, limit)
        with open(source, "rb", buffering=0) as file:
            return _bounded(cast("BinaryIO", file), shown, limit)
    except FileNotFoundError:
        why = "matches no file" if glob.has_magic(source) else "no such file"
        raise PictureError(f"{shown}: {why}") from None
    except MemoryError:
        raise OutOfMemory(f"{shown}: does not fit into memory") from None
    except (OSError, ValueError) as problem:
        # Opening a folder fails with another error on each system.
        if os.path.isdir(source):
            raise PictureError(folder_hint(source)) from None
        reason = getattr(problem, "strerror", None) or problem
        raise PictureError(f"{shown}: cannot be read ({reason})") from None


def check_source(source: str | Path, limit: int) -> None:
    """Raises PictureError for what is no file or pipe, or over `limit` bytes; OSError for what is not there."""
    _check(os.stat(source), shortened(source), limit, source)


def check_no_pipe(source: str, place: str = "", error: type[PictureError] = PictureError) -> None:
    """Raises `error` for a pipe, where a picture is looked at more than once; `place` is where it is named."""
    try:
        is_pipe = stat.S_ISFIFO(os.stat(source).st_mode)
    except (OSError, ValueError):
        return  # who reads it says why it cannot be
    if is_pipe:
        raise error(
            f"{place}{': ' if place else ''}{shortened(source)}: is a pipe, and a batch looks at a picture more than "
            "once; save it as a file, or edit it with 'sdedit run'"
        )


def _check(status: os.stat_result, shown: str, limit: int, source: str | Path | None = None) -> None:
    words = endless(status, source)
    if words:
        raise PictureError(f"{shown}: is {words}, which may never end; save the picture as a file, or pipe it in")
    if stat.S_ISREG(status.st_mode) and status.st_size > limit:
        raise _too_large(shown, f"{rounded(status.st_size / 1e6)} MB", limit)


def _from_stdin(limit: int) -> bytes:
    try:
        status = os.fstat(sys.stdin.fileno())
    except (OSError, ValueError):
        status = None  # not a file of the system's
    # Who types a picture may go on; a socket is as good as a pipe here.
    if status is not None and not sys.stdin.isatty() and not stat.S_ISSOCK(status.st_mode):
        _check(status, "stdin", limit)
    return _bounded(sys.stdin.buffer, "stdin", limit)


def _bounded(file: BinaryIO, shown: str, limit: int) -> bytes:
    held = io.BytesIO()
    # What is a file may grow, and what is a pipe does not say how long it is.
    while block := file.read(min(_BLOCK, limit + 1 - held.tell())):
        held.write(block)
        if held.tell() > limit:
            raise _too_large(shown, f"more than {limit / 1e6:g} MB", limit)
    return held.getvalue()


def _too_large(shown: str, size: str, limit: int) -> PictureError:
    return PictureError(
        f"{shown}: has {size}, over the limit of {limit / 1e6:g} MB; "
        f"scale the picture down, or raise {MEGABYTES_VARIABLE} if you trust the file"
    )
