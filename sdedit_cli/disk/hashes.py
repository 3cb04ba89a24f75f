"""Hashes of files and models; that of the model in use is taken beside the work and remembered between runs."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..signals import began
from .checks import endless_or_pipe
from .shelf import Notes
from .stamps import stamped

# Smaller files are hashed faster than their entry is found.
_WORTH_KEEPING = 8 << 20
_MOST_ENTRIES = 500
_REMEMBERING = threading.Lock()  # several files are hashed beside each other
_COMPONENTS = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")
_OTHER_WEIGHTS = (".bin", ".ckpt", ".pt", ".pth", ".msgpack", ".h5", ".onnx")


def file_hash(path: Path | str) -> str:
    """The SHA-256 of a file in hex. Raises OSError, also for what may have no end."""
    status = os.stat(path)
    # The kernel's files say that they are empty.
    words = endless_or_pipe(status, None if status.st_size else path)
    if words:
        raise OSError(errno.EINVAL, f"{words}, which may never end")
    digest = hashlib.sha256()
    with open(path, "rb", buffering=0) as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def model_hash(path: Path, hash_of: Callable[[Path], str] = file_hash) -> str:
    """The hash of a checkpoint or of one component: a file's own, or for a folder that of the list of its files.

    Weights in another format than safetensors count where they are a variant ('model.fp16.bin'), which may be asked
    for, and where a component has no safetensors but those of a variant, before which they are read. `hash_of` gives
    the hash of one file (a cached one, say).
    """
    if not path.is_dir():
        return hash_of(path)
    listing = hashlib.sha256()
    folders = [name for name in _COMPONENTS if (path / name).is_dir()] or ["."]
    for name in folders:
        files = sorted(p for p in (path / name).glob("*") if p.is_file() and not p.name.startswith("."))
        safe = any(p.suffix == ".safetensors" and "." not in p.stem for p in files)
        for file in files:
            if not (safe and file.suffix in _OTHER_WEIGHTS and "." not in file.stem):
                listing.update(f"{hash_of(file)}  {name}/{file.name}\n".encode())
    return listing.hexdigest()


def content_hash(path: Path) -> str:
    """The hash by which records know a file or folder, from the cache where it is there."""
    return model_hash(path, remembered_hash)


class FileHash:
    """Hashes a model in a thread of its own, since gigabytes take seconds and the result is needed last."""

    def __init__(self, path: Path, hash_of: Callable[[Path], str] = content_hash) -> None:
        self._value = ""
        self._path = path
        self._hash_of = hash_of
        self._thread = threading.Thread(target=self._work, daemon=True)
        if not began(self._thread):
            self._work()

    def _work(self) -> None:
        # A picture without its model's hash is worth more than none.
        with contextlib.suppress(OSError):
            self._value = self._hash_of(self._path)

    def value(self) -> str:
        """The hash; '' when the files could not be read."""
        if self._thread.is_alive():
            self._thread.join()
        return self._value


def remembered_hash(path: Path) -> str:
    """`file_hash`, from the cache when the file has the size and times that it had then."""
    return _remembered(path, file_hash)


def known_hash(path: Path) -> str:
    """`remembered_hash` where it takes no time. Raises LookupError for a large file that is not in the cache."""

    def taken(path: Path) -> str:
        if path.stat().st_size >= _WORTH_KEEPING:
            raise LookupError(path)
        return file_hash(path)

    return _remembered(path, taken)


def payload_hash(path: Path) -> str:
    """The SHA-256 by which web UIs know adapters: that of what follows the header of a .safetensors, else `file_hash`.

    Titles and tags in the header may change without it. '' for a folder.
    """
    if path.is_dir():
        return ""
    return _remembered(path, _payload_hash, "#payload") if path.suffix == ".safetensors" else remembered_hash(path)


def _payload_hash(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        begin = 8 + int.from_bytes(file.read(8), "little")
        file.seek(min(begin, path.stat().st_size))
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _remembered(path: Path, hash_of: Callable[[Path], str], mark: str = "") -> str:
    """A hash from the cache, where `mark` tells the kinds apart."""
    status = path.stat()
    if status.st_size < _WORTH_KEEPING:
        return hash_of(path)
    folder = cache_folder()
    if folder is None:
        return hash_of(path)
    notes = Notes[list[Any]](folder / "hashes.json", _MOST_ENTRIES, list)
    key, stamp = f"{path.resolve()}{mark}", list(stamped(status))
    entry = notes.read().get(key, [])
    if entry[:-1] == stamp and isinstance(entry[-1], str):
        return entry[-1]
    value = hash_of(path)
    with _REMEMBERING:
        notes.add({key: [*stamp, value]})
    return value


def cache_folder() -> Path | None:
    """Where hashes are remembered; None for somebody without a home folder."""
    from platformdirs import user_cache_path

    try:
        folder = user_cache_path("sdedit", appauthor=False)
    except RuntimeError:
        return None
    return folder if folder.is_absolute() else None  # older releases leave the '~' where it is
