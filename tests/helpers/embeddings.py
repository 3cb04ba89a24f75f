"""Textual inversions of random vectors, in every layout that files of them have."""

from __future__ import annotations

import base64
import io
import json
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from safetensors.torch import save_file
from torch import Tensor

WIDTH = 32


def vectors(count: int = 3, width: int = WIDTH, seed: int = 0) -> Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


def a1111(path: Path, of: Tensor) -> None:
    held = {
        "string_to_token": {"*": 265},
        "string_to_param": {"*": of.clone().requires_grad_()},
        "name": "inner",
        "step": 9,
    }
    torch.save(held, path)


def first_trainer(path: Path, of: Tensor) -> None:
    parameters = torch.nn.ParameterDict({"*": torch.nn.Parameter(of)})
    torch.save({"string_to_token": {"*": torch.tensor(265)}, "string_to_param": parameters}, path)


def as_json(of: Tensor) -> bytes:
    return json.dumps({"string_to_param": {"*": {"TORCHTENSOR": of.tolist()}}, "name": "inner"}).encode()


def png_text(path: Path, of: Tensor) -> None:
    in_text(path, as_json(of))


def in_text(path: Path | io.BytesIO, content: bytes) -> None:
    """A picture with `content` in a text beside it."""
    info = PngInfo()
    info.add_text("sd-ti-embedding", base64.b64encode(content).decode())
    Image.new("RGB", (8, 8), "red").save(path, "png", pnginfo=info)


def png_pixels(path: Path, of: Tensor) -> None:
    in_pixels(path, as_json(of))


def in_pixels(path: Path | io.BytesIO, content: bytes) -> None:
    """Two strips of nibbles beside a picture, black columns between them and black borders around."""
    packed = zlib.compress(content)
    height, channels = 40, 3
    columns = -(-len(packed) // (height * channels)) + 1
    data = np.zeros(height * columns * channels, dtype=np.uint8)
    data[: len(packed)] = np.frombuffer(packed, dtype=np.uint8)
    state, mask = 1013904223, np.empty(data.size, dtype=np.uint8)
    for i in range(data.size):
        mask[i] = (state % 255) & 0x0F
        state = (state * 1664525 + 1013904223) % 2**32
    strips = [((part ^ mask) | 0x40).reshape(height, columns, channels) for part in (data & 0x0F, data >> 4)]
    gap, middle = np.zeros((height, 3, channels), np.uint8), np.full((height, 20, channels), 200, np.uint8)
    whole = np.pad(np.concatenate([strips[0], gap, middle, gap, strips[1]], axis=1), ((2, 3), (4, 1), (0, 0)))
    Image.fromarray(whole).save(path, "png")


LAYOUTS: dict[str, tuple[str, Callable[[Path, Tensor], object]]] = {
    "A1111": ("w.pt", a1111),
    "first trainer": ("w.pt", first_trainer),
    "diffusers, pickle": ("w.bin", lambda path, of: torch.save({"<word>": of}, path)),
    "diffusers": ("w.safetensors", lambda path, of: save_file({"<word>": of}, path)),
    "kohya": ("w.safetensors", lambda path, of: save_file({"emb_params": of.half()}, path)),
    "OneTrainer": ("w.safetensors", lambda path, of: save_file({"emp_params": of}, path)),
    "PNG, text": ("w.png", png_text),
    "PNG, pixels": ("w.png", png_pixels),
}
