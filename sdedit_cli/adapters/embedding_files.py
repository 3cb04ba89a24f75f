"""Files of textual inversions opened, in every layout that there is: what they hold, an embedding or not."""

from __future__ import annotations

import base64
import io
import json
import warnings
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from ..configs.base import in_measure
from ..errors import ModelError, listed, shown
from ..weights.formats.mapped_file import reading
from ..weights.formats.open import head_of, open_weights
from ..weights.formats.source import MemorySource, WeightSource

_FOLDER_FILES = ("learned_embeds.safetensors", "learned_embeds.bin")
SUFFIXES = (".safetensors", ".bin", ".pt", ".ckpt", ".png")
# Names of the vectors where they say nothing of the word: trainers' own, and none where a file is the tensor itself.
NAMELESS = ("emb_params", "emp_params", "clip_l", "*", "")
_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_TEXT = "sd-ti-embedding"
MOST_VECTORS = 512
# Bounds of what is read of a picture: its pixels, and the text that is packed in them.
_MOST_PIXELS = 1 << 25
_MOST_BYTES = 1 << 28
_MOST_TEXT = 1 << 24
_UNREADABLE = (ValueError, TypeError, OSError, OverflowError, RuntimeError, RecursionError, SyntaxError, zlib.error)


@dataclass(frozen=True)
class TextualInversion:
    """A word, and the vectors [N, C] that stand for it: it takes N places in a prompt."""

    token: str
    vectors_NC: Tensor
    path: Path


def find_embedding(path: Path) -> Path:
    """The file of an embedding: the file itself, or the one of a folder. Raises ModelError."""
    if not path.is_dir():
        return path
    entries = (entry for entry in path.iterdir() if entry.suffix.lower() in SUFFIXES)
    names = sorted(entry.name for entry in entries if not entry.name.lower().endswith(".preview.png"))
    known = next((name for name in _FOLDER_FILES if name in names), None)
    if known is None and len(names) != 1:
        raise ModelError(f"{path}: {no_single(path, names, 'embedding')}")
    return path / (known or names[0])


def no_single(folder: Path, names: Sequence[str], what: str) -> str:
    """For an error: why the files of these names in a folder are not the one that is meant."""
    if names:
        return f"which of its files is the {what}? Found {listed(names)}; name the file"
    if (folder / "model_index.json").is_file():
        return f"is the folder of a model; expected a file or folder of the {what}"
    return f"is a folder without an {what}; name the file"


def open_embedding(path: Path) -> WeightSource:
    """What a file of any layout holds, an embedding or not. Raises ModelError for one that cannot be read."""
    head, _ = head_of(path)
    with reading(whole=True):  # as of all adapters: they are small and used for long
        return of_dict(_png(path), path, "PNG") if head.startswith(_PNG) else open_weights(path)


def is_bookkeeping(name: str) -> bool:
    """Whether a tensor says which token was trained, and is no vector."""
    return name.startswith("string_to_token")


def of_dict(held: Mapping[str, Any], path: Path, format: str = WeightSource.format) -> WeightSource:
    """A state dict as a source: its tensors, those of inner dicts after a dot, and its texts as extras."""
    tensors: dict[str, Tensor] = {}
    for key, value in held.items():
        inner = cast("Mapping[str, Any]", value) if isinstance(value, Mapping) else {"": value}
        tensors |= {f"{key}.{k}" if k else key: v for k, v in inner.items() if isinstance(v, Tensor)}
    extras = {key: value for key, value in held.items() if isinstance(value, str)}
    return MemorySource(tensors, path=path, extras=extras, format=format)


def _png(path: Path) -> dict[str, Any]:
    """The embedding that web UIs keep in a picture: as a text, or in the low bits of two strips beside it."""
    from PIL import Image

    try:
        # From memory: of a file, Pillow would make room for as much as a broken chunk says that it has.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of many pixels: the limit here is lower
            image = Image.open(io.BytesIO(_bytes(path)), formats=("PNG",))
        with image:
            if image.width * image.height > _MOST_PIXELS:
                raise ValueError(f"it has {image.width} x {image.height} pixels")
            image.load()
            image.info.pop("transparency", None)  # Pillow warns where a palette's is lost, and colours alone count
            text: object = image.info.get(_PNG_TEXT)
            content = base64.b64decode(text) if isinstance(text, str) else _of_pixels(np.asarray(image.convert("RGB")))
        held: object = json.loads(in_measure(content.decode()))
        table = cast("dict[str, Any]", held) if isinstance(held, dict) else {}
        return {key: _value(value) for key, value in table.items()}
    except (Image.DecompressionBombError, *_UNREADABLE) as problem:
        raise ModelError(
            f"{path}: is a picture without an embedding that can be read ({shown(str(problem))})"
        ) from None


def _bytes(path: Path) -> bytes:
    with path.open("rb") as file:
        data = file.read(_MOST_BYTES + 1)
    if len(data) > _MOST_BYTES:
        raise ValueError(f"it has more than {_MOST_BYTES >> 20} MiB")
    return data


def _value(value: Any) -> Any:
    if isinstance(value, dict):
        inner = cast("dict[str, Any]", value)
        if "TORCHTENSOR" in inner:
            return torch.tensor(inner["TORCHTENSOR"], dtype=torch.float32)
        return {key: _value(item) for key, item in inner.items()}
    return value


def _of_pixels(pixels_HWC: np.ndarray[Any, Any]) -> bytes:
    """The strips hold the low and the high half of each byte, each xor'd with a generator's low bits."""
    lit = pixels_HWC.reshape(*pixels_HWC.shape[:2], 3).max(axis=2) > 0
    rows, columns = np.flatnonzero(lit.any(axis=1)), np.flatnonzero(lit.any(axis=0))
    if not len(rows):
        raise ValueError("it is black")
    cut = pixels_HWC[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    dark = np.flatnonzero(~(cut.max(axis=2) > 0).any(axis=0))
    if not len(dark):
        raise ValueError("it has no strips of data")
    strips = (cut[:, : dark[0]], cut[:, dark[-1] + 1 :])
    # What is packed is no longer than its text may be.
    low, high = (_clear(strip.reshape(-1)[:_MOST_TEXT] & 0x0F) for strip in strips)
    count = min(len(low), len(high))
    packed = (low[:count] | (high[:count] << 4)).astype(np.uint8).tobytes()
    return zlib.decompressobj().decompress(packed, _MOST_TEXT)


def _clear(nibbles: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The nibbles without the mask: states of x -> 1664525 x + 1013904223 mod 2^32 from that of 0 on, as many at once
    as are known."""
    count, known = nibbles.size, 1
    factor, addend = 1664525, 1013904223
    states = np.full(count, addend, dtype=np.uint32)  # whose products are taken mod 2^32
    while known < count:
        new = min(known, count - known)
        states[known : known + new] = states[:new] * np.uint32(factor) + np.uint32(addend)
        # The step of twice as many: x -> f (f x + a) + a.
        factor, addend = factor * factor % 2**32, (factor * addend + addend) % 2**32
        known += new
    return nibbles ^ ((states % np.uint32(255)) & np.uint32(0x0F)).astype(np.uint8)
