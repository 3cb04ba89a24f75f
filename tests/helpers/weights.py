"""Weights files for tests: sound ones, damaged ones, and a tiny module to put them into."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn


def raw_safetensors(header: Any, data: bytes = b"", *, length: int | None = None) -> bytes:
    """A safetensors file of any header, honest or not; `length` overrides the header length that the file claims."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


def entry(dtype: str, shape: list[int], start: int, end: int) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


class TinyNet(nn.Module):
    """A linear, a convolution, a norm with buffers of several kinds: every kind of slot that `fill` meets."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 3)
        self.conv = nn.Conv2d(3, 5, 1)
        self.norm = nn.BatchNorm1d(3)  # has an integer buffer
        self.register_buffer("scratch", torch.zeros(2), persistent=False)


def meta_net() -> TinyNet:
    with torch.device("meta"):
        return TinyNet()


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


class Call:
    """Pickled, this is a request to call `function(*args)`: what an attack file is made of."""

    def __init__(self, function: Any, *args: Any) -> None:
        self.request = (function, args)

    def __reduce__(self) -> Any:
        return self.request
