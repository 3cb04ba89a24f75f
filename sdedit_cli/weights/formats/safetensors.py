"""Reader of .safetensors files: 8 bytes of header length, a JSON header, then the tensors' bytes without gaps.

Format: https://github.com/huggingface/safetensors#format. The header is checked in full before any tensor is given
out, so that a damaged or hostile file is refused with its reason rather than read past its end.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from ...configs.base import in_measure
from ...errors import ModelError, shown
from .mapped_file import MappedFile
from .shapes import is_possible, sides
from .source import EntrySource

HEADER_LIMIT = 100_000_000  # the format's own limit

TAGS: dict[str, torch.dtype] = {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "I8": torch.int8,
    "U16": torch.uint16,
    "I16": torch.int16,
    "U32": torch.uint32,
    "I32": torch.int32,
    "U64": torch.uint64,
    "I64": torch.int64,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F32": torch.float32,
    "F64": torch.float64,
    "C64": torch.complex64,
}

# Dtypes of the format that are those of no weights, with the bits of a number: a leftover in one harms nothing.
_UNREAD = {"F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8}
_BITS = {tag: 8 * dtype.itemsize for tag, dtype in TAGS.items()} | _UNREAD


@dataclass(frozen=True)
class HeaderEntry:
    """Where a tensor is: `start` counts from the beginning of the file. `problem` says why it cannot be read."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int
    end: int
    problem: str = ""


class SafetensorsFile(EntrySource[HeaderEntry]):
    """A WeightSource on a mapped .safetensors file. Raises ModelError on a header that does not fit the file."""

    format = "safetensors"

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = MappedFile(path)
        self._entries, self.metadata = read_header(self._file)
        self.unreadable = {name: entry.problem for name, entry in self._entries.items() if entry.problem}

    def get(self, name: str) -> Tensor:
        entry = self._entry(name)
        if entry.problem:
            raise ModelError(f"{self.path}: the tensor '{shown(name)}' {entry.problem}")
        return self._file.view(entry.start, entry.dtype, entry.shape)


def is_text(text: str) -> bool:
    """Whether UTF-8 can hold it. What JSON escapes may be half a character."""
    return not any("\ud800" <= c <= "\udfff" for c in text)


def read_header(file: MappedFile) -> tuple[dict[str, HeaderEntry], Mapping[str, str]]:
    """The entries in the order of their bytes, and the metadata. Raises ModelError naming the file and the problem."""
    length = int.from_bytes(file.data(0, 8), "little")
    if file.size < 8 or length > file.size - 8:
        raise _broken(file, f"header of {length} bytes in a file of {file.size}: cut short, or not safetensors")
    if length > HEADER_LIMIT:
        raise _broken(file, f"header of {length} bytes, at most {HEADER_LIMIT} are allowed")
    header = _parse(file, file.data(8, length))
    metadata = header.pop("__metadata__", None)
    entries = {name: _entry(file, name, facts, 8 + length) for name, facts in header.items()}
    ordered = sorted(entries.items(), key=lambda item: (item[1].start, item[1].end))
    _check_cover(file, ordered, 8 + length)
    return dict(ordered), _check_metadata(file, metadata)


def _parse(file: MappedFile, raw: bytes) -> dict[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            twice = next(name for name, times in Counter(name for name, _ in pairs).items() if times > 1)
            raise _broken(file, f"'{shown(twice)}' is there twice in the header")
        return found

    try:
        header: object = json.loads(in_measure(raw.decode("utf-8")), object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        why = f"header is not JSON ({str(error)[:80]}): damaged, or another kind of file; download it again"
        raise _broken(file, why) from None
    if not isinstance(header, dict):
        raise _broken(file, f"header is a JSON {type(header).__name__}, expected an object")
    return cast("dict[str, Any]", header)


def _entry(file: MappedFile, name: str, facts: object, base: int) -> HeaderEntry:
    if not isinstance(facts, dict):
        raise _broken(file, f"'{shown(name)}' has no dtype, shape and offsets")
    fields = cast("dict[str, object]", facts)
    tag = str(fields.get("dtype"))
    if tag not in _BITS:
        raise _broken(file, f"'{shown(name)}' has the unknown dtype '{shown(fields.get('dtype'))}'")
    shape = sides(fields.get("shape"))
    offsets = sides(fields.get("data_offsets"))
    if shape is None or not is_possible(shape):
        raise _broken(file, f"'{shown(name)}' has the shape {shown(fields.get('shape'))}")
    if offsets is None or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise _broken(file, f"'{shown(name)}' has the offsets {shown(fields.get('data_offsets'))}")
    start, end = offsets
    if base + end > file.size:
        raise _broken(file, f"'{shown(name)}' ends at byte {base + end} of a file of {file.size}: cut short?")
    if 8 * (end - start) != prod(shape) * _BITS[tag]:
        said = f"of shape {list(shape)} and dtype {tag}"
        raise _broken(file, f"'{shown(name)}' {said} is {end - start} bytes long")
    problem = f"is of the dtype {tag}, which is not read; use the model's fp16 or bf16 file" if tag in _UNREAD else ""
    return HeaderEntry(TAGS.get(tag, torch.uint8), shape, base + start, base + end, problem)


def _check_cover(file: MappedFile, ordered: list[tuple[str, HeaderEntry]], position: int) -> None:
    """Tensors lie end to end from the header to the last byte; anything else hides something or is damaged."""
    for name, entry in ordered:
        if entry.start != position:
            problem = "overlaps the tensor before it" if entry.start < position else "follows a hole"
            raise _broken(file, f"'{shown(name)}' at byte {entry.start} {problem} (expected byte {position})")
        position = entry.end
    if position != file.size:
        raise _broken(file, f"{file.size - position} bytes follow the last tensor")


def _check_metadata(file: MappedFile, metadata: object) -> Mapping[str, str]:
    if metadata is None:  # some writers say so that there is none
        return {}
    if not isinstance(metadata, dict):
        raise _broken(file, "__metadata__ is not an object")
    items = cast("dict[str, object]", metadata)
    texts = {key: value for key, value in items.items() if isinstance(value, str)}
    if len(texts) != len(items):
        raise _broken(file, "__metadata__ holds something other than text")
    return texts


def _broken(file: MappedFile, problem: str) -> ModelError:
    return ModelError(f"{file.path}: not a usable safetensors file: {problem}")
