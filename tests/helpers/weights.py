"""Weights files for tests: sound ones, damaged ones, and a tiny module to put them into."""

from __future__ import annotations

import json
import warnings
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sdedit_cli.weights.formats.torchfile.machine import PickleMachine
from sdedit_cli.weights.formats.torchfile.opcodes import PickleStream


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


def unpickled(content: bytes) -> object:
    """The inert values of a pickle."""
    return PickleMachine(PickleStream(BytesIO(content))).load()


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


class Call:
    """Pickled, this is a request to call `function(*args)`: what an attack file is made of."""

    def __init__(self, function: Any, *args: Any) -> None:
        self.request = (function, args)

    def __reduce__(self) -> Any:
        return self.request


def msgpack(value: Any) -> bytes:
    """`value` as msgpack the way Flax writes it: dicts, text, numbers, and torch tensors as arrays."""
    if isinstance(value, dict):
        return b"\xdf" + len(value).to_bytes(4, "big") + b"".join(msgpack(k) + msgpack(v) for k, v in value.items())
    if isinstance(value, (list, tuple)):
        return b"\xdd" + len(value).to_bytes(4, "big") + b"".join(msgpack(item) for item in value)
    if isinstance(value, bool):
        return b"\xc3" if value else b"\xc2"
    if isinstance(value, int):
        return b"\xd3" + value.to_bytes(8, "big", signed=True)
    if isinstance(value, str):
        return b"\xdb" + len(value.encode()).to_bytes(4, "big") + value.encode()
    if isinstance(value, bytes):
        return b"\xc6" + len(value).to_bytes(4, "big") + value
    raw = bytes(value.contiguous().view(-1).view(torch.uint8).numpy())
    content = msgpack((tuple(value.shape), str(value.dtype).removeprefix("torch."), raw))
    return b"\xc9" + len(content).to_bytes(4, "big") + b"\x01" + content


FLAX_FILES = {
    "unet": "diffusion_flax_model.msgpack",
    "vae": "diffusion_flax_model.msgpack",
    "text_encoder": "flax_model.msgpack",
}


def flax_tree(tensors: dict[str, torch.Tensor], part: str) -> dict[str, Any]:
    """A PyTorch state dict as Flax keeps it, from its documentation: kernels transposed, norms scaled, lists joined."""
    joined = part != "text_encoder"
    old = {".to_q.": ".query.", ".to_k.": ".key.", ".to_v.": ".value.", ".to_out.0.": ".proj_attn."}
    if part == "vae":
        for new, was in old.items():
            tensors = {name.replace(new, was): tensor for name, tensor in tensors.items()}
    tree: dict[str, Any] = {}
    for name, tensor in tensors.items():
        parts = name.split(".")
        if joined:
            for at in range(len(parts) - 1, 0, -1):
                if parts[at].isdigit():
                    parts[at - 1 : at + 1] = [f"{parts[at - 1]}_{parts[at]}"]
        leaf = parts.pop()
        if leaf == "weight":
            leaf = (
                "embedding"
                if "embedding" in parts[-1] and parts[-1].endswith("_embedding") and not joined
                else "kernel"
            )
            leaf = "scale" if tensor.ndim == 1 else leaf
        if leaf == "kernel":
            tensor = tensor.permute(2, 3, 1, 0) if tensor.ndim == 4 else tensor.t()
        branch = tree
        for part in parts:
            branch = branch.setdefault(part, {})
        branch[leaf] = tensor.contiguous()
    return tree


def quantised(values: Tensor) -> Tensor:
    """As torch keeps it; torch warns that it will stop to."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.quantize_per_tensor(values, 0.1, 0, torch.qint8)
