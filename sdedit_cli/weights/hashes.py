"""The hashes that people know a checkpoint by, remembered by path, size and time.

SHA-256 of the whole file; AutoV2, its first ten digits; AutoV1, the first eight digits of the SHA-256 of 64 KiB from
the first MiB on (what web UIs showed before, the same for many files; nothing is there in files smaller than that).
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import cast

from ..errors import ModelError

_CHUNK = 1 << 22
_AUTO_V1_START, _AUTO_V1_LENGTH = 0x100000, 0x10000
_CACHE_LIMIT = 1 << 20  # bytes of the cache above which it is written anew with its newest lines
_CACHE_LINES = 1000
CACHE_NAME = "weights-hashes.jsonl"


@dataclass(frozen=True)
class Hashes:
    """Lower-case hexadecimal digests of a file."""

    sha256: str
    autov1: str

    @property
    def autov2(self) -> str:
        return self.sha256[:10]


def file_hashes(path: Path | str, cache: Path | None = None) -> Hashes:
    """The hashes of a file, from the cache when path, size and time of change are those of a file seen before.

    `cache` is the cache's file; None for the one in the user's cache folder. A cache that is damaged, or that cannot be
    written, is as good as none. Raises ModelError when the file cannot be read.
    """
    path = Path(path).absolute()
    cache = cache or default_cache()
    try:
        key = _key(path)
        known = _remembered(cache).get(key)
        if known is None:
            known = _compute(path)
            # A file that changed while it was read has no hash worth keeping.
            if _key(path) == key:
                _remember(cache, key, known)
        return known
    except IsADirectoryError:
        raise ModelError(f"{path}: is a folder, expected a file to hash") from None
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror or error})") from None


def default_cache() -> Path:
    from platformdirs import user_cache_path

    return user_cache_path("sdedit", appauthor=False) / CACHE_NAME


Key = tuple[str, int, int]


def _key(path: Path) -> Key:
    facts = path.stat()
    return str(path), facts.st_size, facts.st_mtime_ns


def _compute(path: Path) -> Hashes:
    whole = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        file.seek(_AUTO_V1_START)
        part = hashlib.sha256(file.read(_AUTO_V1_LENGTH)).hexdigest()[:8]
        file.seek(0)
        buffer = bytearray(_CHUNK)
        while count := file.readinto(buffer):
            whole.update(memoryview(buffer)[:count])
    return Hashes(whole.hexdigest(), part)


def _remembered(cache: Path) -> dict[Key, Hashes]:
    """What the cache's sound lines say; the last one of a file counts."""
    try:
        lines = cache.read_bytes().splitlines()
    except OSError:
        return {}
    return dict(entry for line in lines if (entry := _parse(line)) is not None)


def _parse(line: bytes) -> tuple[Key, Hashes] | None:
    try:
        record: object = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(record, dict):
        return None
    entry = cast("dict[str, object]", record)
    path, size, mtime = entry.get("path"), entry.get("size"), entry.get("mtime_ns")
    digests = [entry.get(field.name) for field in fields(Hashes)]
    if not (isinstance(path, str) and isinstance(size, int) and isinstance(mtime, int) and _are_hex(digests)):
        return None
    return (path, size, mtime), Hashes(*cast("list[str]", digests))


def _are_hex(digests: list[object]) -> bool:
    lengths = (64, 8)
    return all(
        isinstance(digest, str) and len(digest) == length and set(digest) <= set("0123456789abcdef")
        for digest, length in zip(digests, lengths, strict=True)
    )


def _remember(cache: Path, key: Key, hashes: Hashes) -> None:
    """Append one line; several processes may do so at once. Nothing depends on it: failures are silent."""
    try:
        cache.parent.mkdir(parents=True, exist_ok=True)
        if cache.exists() and cache.stat().st_size > _CACHE_LIMIT:
            _shorten(cache)
        # A line of its own, whatever a process that was killed left behind.
        with cache.open("ab") as file:
            file.write(b"\n" + _line(key, hashes))
    except OSError:
        pass


def _shorten(cache: Path) -> None:
    newest = list(_remembered(cache).items())[-_CACHE_LINES // 2 :]
    temporary = cache.with_name(f"{cache.name}.{os.getpid()}.tmp")
    temporary.write_bytes(b"".join(_line(key, hashes) for key, hashes in newest))
    temporary.replace(cache)


def _line(key: Key, hashes: Hashes) -> bytes:
    path, size, mtime = key
    return json.dumps({"path": path, "size": size, "mtime_ns": mtime, **asdict(hashes)}).encode() + b"\n"
