"""Reading pickled checkpoints as torch reads them, without torch's unpickler."""

from __future__ import annotations

import datetime
import pathlib
import pickle
import zipfile
from collections import OrderedDict, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.weights import TinyNet, write
from torch import Tensor

from sdedit_cli.errors import ModelError
from sdedit_cli.weights.mapping import mapped_file_of
from sdedit_cli.weights.pickle_reader import PickleSource

FORMATS = {"zip": {}, "legacy": {"_use_new_zipfile_serialization": False}}
DTYPES = [
    torch.float64,
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.int64,
    torch.int32,
    torch.int16,
    torch.int8,
    torch.uint8,
    torch.bool,
    torch.complex64,
]
NEW_DTYPES = [torch.uint16, torch.uint32, torch.uint64, torch.float8_e4m3fn, torch.float8_e5m2]


def saved(path: Path, root: Any, style: str = "zip", **options: Any) -> PickleSource:
    torch.save(root, path, **FORMATS[style], **options)
    return PickleSource(path)


def assert_same(source: PickleSource, expected: dict[str, Tensor]) -> None:
    assert set(source.names()) == set(expected)
    for name, tensor in expected.items():
        assert source.shape(name) == tuple(tensor.shape)
        assert source.dtype(name) == tensor.dtype
        got = source.get(name)
        assert got.shape == tensor.shape
        assert torch.equal(got.contiguous().view(-1).view(torch.uint8), tensor.contiguous().view(-1).view(torch.uint8))


@pytest.mark.parametrize("style", FORMATS)
def test_every_dtype_and_layout_comes_back(style: str, tmp_path: Path) -> None:
    """Views, transposes, shared storages, empty and 0-d tensors included."""
    tensors: dict[str, Tensor] = {str(dtype): torch.arange(6).to(dtype).reshape(2, 3) for dtype in DTYPES}
    base = torch.arange(60.0)
    tensors |= {
        "slice": base[7:20],
        "transposed": base.reshape(6, 10).t(),
        "strided": base.reshape(3, 4, 5)[1:, ::2, 1:4],
        "empty": torch.empty(0, 3),
        "scalar": torch.tensor(3.5),
        "parameter": torch.nn.Parameter(torch.ones(2)),
    }
    assert_same(saved(tmp_path / "f", tensors, style), {name: t.detach() for name, t in tensors.items()})


@pytest.mark.parametrize("dtype", NEW_DTYPES)
def test_dtypes_without_a_storage_class(dtype: torch.dtype, tmp_path: Path) -> None:
    tensor = torch.arange(6).to(torch.float32).to(dtype).reshape(2, 3)
    assert_same(saved(tmp_path / "f", {"a": tensor, "b": tensor.t()}), {"a": tensor, "b": tensor.t()})


@pytest.mark.parametrize("protocol", range(2, 6))
def test_every_protocol_that_torch_writes(protocol: int, tmp_path: Path) -> None:
    state = TinyNet().state_dict()
    assert_same(saved(tmp_path / "f", {"state_dict": state}, pickle_protocol=protocol), dict(state))


@pytest.mark.parametrize("protocol", range(6))
def test_bare_pickles_of_numpy_arrays(protocol: int, tmp_path: Path) -> None:
    arrays = {
        "a": np.arange(6, dtype=np.float32).reshape(2, 3),
        "b": np.asfortranarray(np.arange(6, dtype=">i2").reshape(2, 3)),
        "c": np.array([True, False]),
    }
    path = write(tmp_path / "f", pickle.dumps(arrays, protocol=protocol))
    native = {
        name: torch.from_numpy(np.ascontiguousarray(a, dtype=a.dtype.newbyteorder("="))) for name, a in arrays.items()
    }
    assert_same(PickleSource(path), native)


def test_tensors_are_views_of_the_file(tmp_path: Path) -> None:
    source = saved(tmp_path / "f", {"a": torch.ones(64, 4), "b": torch.ones(4, 64)})
    assert mapped_file_of(source.get("a")) is not None


@pytest.mark.parametrize("style", FORMATS)
def test_training_leftovers_are_read_past(style: str, tmp_path: Path) -> None:
    net = TinyNet()
    optimizer = torch.optim.AdamW(net.parameters())
    for parameter in net.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    root = {
        "state_dict": OrderedDict(net.state_dict()),
        "global_step": 840001,
        "epoch": 3,
        "loss": np.float64(0.25),
        "optimizer_states": [optimizer.state_dict()],
        "callbacks": {Lightning: Lightning(), ("a", 1): {"best": pathlib.PurePosixPath("/x")}},
        "when": datetime.datetime(2022, 8, 22),
        "hyper_parameters": defaultdict(list, betas={0.9, 0.999}),
        "note": None,
    }
    source = saved(tmp_path / "f", root, style)
    assert_same(source, dict(net.state_dict()))
    assert source.extras["global_step"] == 840001
    assert source.extras["loss"] == 0.25
    assert source.extras["note"] is None
    assert source.extras["when"] == "datetime.datetime"


class Lightning:
    """Stands for a callback whose class the reader does not have."""

    def __init__(self) -> None:
        self.best = torch.ones(1)

    def __setstate__(self, state: Any) -> None:
        raise AssertionError("a class of the file was called")


@pytest.mark.parametrize("wrapper", ["state_dict", "params_ema", "model", "module"])
def test_wrappers_are_taken_off(wrapper: str, tmp_path: Path) -> None:
    assert_same(saved(tmp_path / "f", {wrapper: {"a": torch.ones(1)}, "epoch": 1}), {"a": torch.ones(1)})


def test_nested_dicts_get_dotted_names_and_whole_modules_are_read(tmp_path: Path) -> None:
    nested = {"image_proj": {"latents": torch.ones(1)}, "ip_adapter": {"1.to_k.weight": torch.ones(2)}}
    expected = {"image_proj.latents": torch.ones(1), "ip_adapter.1.to_k.weight": torch.ones(2)}
    assert_same(saved(tmp_path / "f", nested), expected)
    net = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))
    assert_same(saved(tmp_path / "g", net), dict(net.state_dict()))


def test_containers_that_hold_each_other_are_not_followed_forever(tmp_path: Path) -> None:
    loop: dict[str, Any] = {"a": torch.ones(1)}
    loop["self"] = loop
    with pytest.raises(ModelError, match="without end"):
        saved(tmp_path / "f", loop)


def test_big_endian_archives_are_swapped(tmp_path: Path) -> None:
    """The archive says in which order its bytes are; numbers mean the same on every machine."""
    tensor, number = torch.tensor([1.5, -2.0, 3.25]), torch.tensor([1 + 2j])
    torch.save({"a": tensor, "b": number}, tmp_path / "f")
    with zipfile.ZipFile(tmp_path / "f") as old, zipfile.ZipFile(tmp_path / "g", "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if "/data/" in name:
                content = b"".join(content[at : at + 4][::-1] for at in range(0, len(content), 4))
            new.writestr(name, b"big" if name.endswith("byteorder") else content)
    assert_same(PickleSource(tmp_path / "g"), {"a": tensor, "b": number})


@pytest.mark.parametrize("style", FORMATS)
def test_a_file_cut_short_is_refused_at_every_length(style: str, tmp_path: Path) -> None:
    torch.save({"a": torch.ones(8), "b": torch.ones(3)}, tmp_path / "f", **FORMATS[style])
    content = (tmp_path / "f").read_bytes()
    for length in range(1, len(content) - 1, 7):
        with pytest.raises(ModelError) as error:
            PickleSource(write(tmp_path / "g", content[:length]))
        assert len(str(error.value).splitlines()) <= 2


def test_no_tensors_at_all_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="holds no tensors"):
        saved(tmp_path / "f", {"epoch": 1})
