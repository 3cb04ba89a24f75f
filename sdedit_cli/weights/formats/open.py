"""open_weights: a WeightSource from a file of any known format, told apart by content and never by name."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from ...configs.base import LARGEST_TEXT, bounded_text, object_in
from ...errors import ModelError
from .flax import FlaxSource
from .safetensors import SafetensorsFile
from .scaled import with_scales
from .sharded import ShardedSource
from .source import WeightSource
from .torchfile.source import PickleSource

_ZIP = b"PK\x03\x04"
_PICTURES = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"RIFF", b"BM")
_HINTS: tuple[tuple[tuple[bytes, ...], str], ...] = (
    (
        (b"version https://git-lfs",),
        "is a git-lfs pointer, not the weights themselves: run 'git lfs pull' in its folder, or download the file",
    ),
    (
        (b"<!doctype", b"<html", b"<?xml", b"<!--"),
        "is a web page saved in place of the weights: download the file itself, logged in if the site asks for it",
    ),
    (tuple(magic.lower() for magic in _PICTURES), "is a picture, expected a weights file"),
    ((b"gguf",), "is a GGUF file, which is not supported: get the .safetensors of the model"),
    (
        (b"\x89hdf", b"\x93numpy", b"ftrt", b"<net ", *(bytes((8, version, 18)) for version in range(3, 16))),
        "is of another program (ONNX, OpenVINO, TensorRT, Keras, NumPy): get the .safetensors of the model",
    ),
    (
        (b"\x1f\x8b", b"7z\xbc\xaf", b"rar!", b"\xfd7zxz", b"bzh", b"\x28\xb5\x2f\xfd"),
        "is a compressed archive: unpack it and name the weights in it",
    ),
)
_NETWORK_IN_XML = re.compile(rb"<\?xml[^>]*>\s*(?=<net )")
_WEIGHTS = "weights or the index of sharded ones"
_HEAD = 512
# torch's files of before 1.6 begin with this number in pickle protocols 0 and 1.
_LEGACY_MAGIC = b"L119547037146038801333356L"
_NEW_PICKLES = tuple(bytes((0x80, protocol)) for protocol in range(2, 6))
_OLD_PICKLES = (_LEGACY_MAGIC, b"(dp", b"(lp", b"}q", b"]q", b"ccollections\n", b"ctorch", b"c__builtin__\n")


def open_weights(path: Path | str) -> WeightSource:
    """The tensors of a weights file: safetensors, a torch checkpoint of any age, Flax msgpack, or a shard index.

    Scaled weights come multiplied. Nothing in the file is executed.

    Raises ModelError saying what the file is instead, or what is wrong with it.
    """
    path = Path(path)
    try:
        return with_scales(_opened(path, _of_index))
    except (MemoryError, RecursionError):
        raise ModelError(f"{path}: takes more memory to read than there is; it is damaged or made to do so") from None


def _opened(path: Path, of_json: Callable[[Path], WeightSource]) -> WeightSource:
    head, size = head_of(path)
    if _is_safetensors(head, size):
        return SafetensorsFile(path)
    if head.startswith(_ZIP) or _is_pickle(head):
        return PickleSource(path)
    start = _NETWORK_IN_XML.sub(b"", head.lstrip(b"\xef\xbb\xbf \t\r\n").lower())
    for magics, problem in _HINTS:
        if start.startswith(magics):
            raise ModelError(f"{path}: {problem}")
    if _is_flax(head):
        return FlaxSource(path)
    if start.startswith(b"{"):
        return of_json(path)
    if head[257:262] == b"ustar":
        raise ModelError(f"{path}: is a tar archive: unpack it and name the weights in it")
    if _is_text(head):
        raise ModelError(f"{path}: is a text file, expected weights (.safetensors, .ckpt, .pt, .bin)")
    # What is left is damaged or unknown; the strictest reader knows best what to say of a cut header.
    return SafetensorsFile(path)


def head_of(path: Path) -> tuple[bytes, int]:
    """The first bytes of a file, and how many it has. Raises ModelError for what is no file, is empty or cannot be
    read; nothing waits for a pipe."""
    try:
        if path.is_dir():
            raise ModelError(f"{path}: is a folder, expected a weights file")
        if path.exists() and not path.is_file():
            raise ModelError(f"{path}: is a pipe or a device, expected a weights file; save it as a file first")
        with path.open("rb") as file:
            head = file.read(_HEAD)
        if not head:
            raise ModelError(f"{path}: is empty (0 bytes); download or copy it again")
        return head, path.stat().st_size
    except FileNotFoundError:
        raise ModelError(f"{path}: no such file") from None
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror or error})") from None


def _is_safetensors(head: bytes, size: int) -> bool:
    return len(head) > 8 and head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= size


def _is_flax(head: bytes) -> bool:
    """A msgpack dictionary whose first key is text: the tree of a model's parameters."""
    place = {0xDE: 3, 0xDF: 5}.get(head[0], 1 if 0x80 < head[0] < 0x90 else 0)
    return bool(place) and len(head) > place and (0xA0 < head[place] < 0xC0 or 0xD9 <= head[place] <= 0xDB)


def _is_pickle(head: bytes) -> bool:
    """Protocol 2 and later say so; 0 and 1 begin with a mark, a container or a name."""
    return head.startswith((*_NEW_PICKLES, *_OLD_PICKLES))


def _of_index(path: Path) -> WeightSource:
    try:
        content = object_in(bounded_text(path, LARGEST_TEXT, ModelError, _WEIGHTS))
    except (ValueError, OSError):
        content = None
    if content and "weight_map" in content:
        return ShardedSource(path, lambda shard: _opened(shard, _no_shard))
    raise ModelError(
        f"{path}: is a JSON file without a 'weight_map', such as a server's error message, and no weights; "
        f"expected {_WEIGHTS}"
    )


def _no_shard(path: Path) -> NoReturn:
    """Of an index nothing is opened but weights: one that names another, or itself, would take for ever."""
    raise ModelError(f"{path}: is a JSON file, expected the weights that an index names; download it again")


def _is_text(head: bytes) -> bool:
    try:
        text = head.decode("utf-8")
    except UnicodeDecodeError as error:
        # A character may be cut where the head ends.
        cut = len(head) == _HEAD and error.start > _HEAD - 4
        text = head[: error.start].decode("utf-8") if cut else "\0"
    return all(char.isprintable() or char in "\r\n\t\f" for char in text)
