"""Reading pickled checkpoints as torch reads them, without torch's unpickler."""

from __future__ import annotations

import datetime
import pathlib
import pickle
import warnings
import zipfile
from collections import OrderedDict, defaultdict, deque
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.weights import Call, TinyNet, quantised, write
from torch import Tensor

from sdedit_cli.errors import ModelError
from sdedit_cli.weights.formats.mapped_file import mapped_file_of
from sdedit_cli.weights.formats.torchfile.source import PickleSource

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


LEFTOVERS: dict[str, Any] = {
    "range": range(4),
    "bytearray": bytearray(b"abc"),
    "ellipsis": ...,
    "not implemented": NotImplemented,
    "exception": ValueError("x"),
    "slice": slice(1, 2),
    "complex": 1j,
    "set": {1, "a", (2.5, None)},
    "frozen set": frozenset([int, 3]),
    "deque": deque([1]),
    "random state": np.random.RandomState(0),
    "layouts": [torch.strided, torch.sparse_coo],
    "sparse": torch.eye(3).to_sparse(),
    "expanded": torch.ones(1).expand(2**40),
    "many numbers": np.random.default_rng(0).random(600_000),
    "keys of every kind": {1: 1, (1, "a"): 2, None: 3, 2.5: 4, int: 5, b"x": 6, 2**200: 7, "k" * 5000: 8},
    "many keys": {number: {"step": number} for number in range(20_000)},
}


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("leftover", LEFTOVERS)
@pytest.mark.parametrize("style", FORMATS)
def test_harmless_leftovers_refuse_nothing(style: str, leftover: str, protocol: int, tmp_path: Path) -> None:
    state = {"a": torch.ones(2)}
    for root in (
        {"state_dict": state, "x": LEFTOVERS[leftover]},
        {"state_dict": {**state, "x": [LEFTOVERS[leftover]]}},
    ):
        assert_same(saved(tmp_path / "f", root, style, pickle_protocol=protocol), state)


@pytest.mark.parametrize("style", FORMATS)
def test_a_quantised_tensor_is_refused_when_it_is_asked_for(style: str, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        source = saved(tmp_path / "f", {"a": torch.ones(2), "q": quantised(torch.ones(3))}, style)
        beside = saved(tmp_path / "g", {"state_dict": {"a": torch.ones(2)}, "q": quantised(torch.ones(3))}, style)
    assert_same(beside, {"a": torch.ones(2)})
    assert torch.equal(source.get("a"), torch.ones(2))
    with pytest.raises(ModelError, match="'q' is quantised"):
        source.get("q")


def test_expanded_tensors_are_read_as_far_as_they_make_no_large_model_of_a_small_file(tmp_path: Path) -> None:
    wide = torch.arange(3.0)[:, None].expand(3, 100)
    assert_same(saved(tmp_path / "f", {"a": wide, "b": torch.ones(1)}), {"a": wide, "b": torch.ones(1)})
    many = {f"m{i}": torch.ones(1).expand(2**20) for i in range(40)}
    source = saved(tmp_path / "f", many)
    assert source.shape("m0") == (2**20,)
    assert source.get("m0").shape == (2**20,)
    with pytest.raises(ModelError, match=r"'m39' of shape .* repeats numbers"):
        source.get("m39")


class Lightning:
    """Stands for a callback whose class the reader does not have."""

    def __init__(self) -> None:
        self.best = torch.ones(1)

    def __setstate__(self, state: Any) -> None:
        raise AssertionError("a class of the file was called")


@pytest.mark.parametrize("wrapper", ["state_dict", "model_state_dict", "params_ema", "model", "module", "checkpoint"])
def test_wrappers_are_taken_off(wrapper: str, tmp_path: Path) -> None:
    assert_same(saved(tmp_path / "f", {wrapper: {"a": torch.ones(1)}, "epoch": 1}), {"a": torch.ones(1)})


def test_nested_dicts_get_dotted_names_and_whole_modules_are_read(tmp_path: Path) -> None:
    nested = {"image_proj": {"latents": torch.ones(1)}, "ip_adapter": {"1.to_k.weight": torch.ones(2)}}
    expected = {"image_proj.latents": torch.ones(1), "ip_adapter.1.to_k.weight": torch.ones(2)}
    assert_same(saved(tmp_path / "f", nested), expected)
    net = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))
    assert_same(saved(tmp_path / "g", net), dict(net.state_dict()))


PARTS = {"model": "unet", "first_stage_model": "vae", "cond_stage_model": "clip"}


def part(name: str) -> dict[str, Any]:
    return {name: {"proj": {"weight": torch.full((2,), float(len(name)))}}}


@pytest.mark.parametrize(
    ("root", "names"),
    [
        ({name: part(inner) for name, inner in PARTS.items()}, [f"{k}.{v}.proj.weight" for k, v in PARTS.items()]),
        ({"model": part("a"), "optimizer": {"state": {0: {"exp_avg": torch.ones(1)}}}}, ["a.proj.weight"]),
        ({"model": part("a"), "model_ema": part("a"), "callbacks": part("b")}, ["a.proj.weight"]),
        ({"model": part("a"), "rng_state": torch.ones(3), "betas": torch.ones(3)}, ["a.proj.weight"]),
        ({"model": {"state_dict": part("a"), "epoch": 1}, "step": 2}, ["a.proj.weight"]),
        ({"checkpoint": {"state_dict": part("a"), "epoch": 1}, "step": 2}, ["a.proj.weight"]),
        ({"checkpoint": part("a"), "unet": part("b")}, ["checkpoint.a.proj.weight", "unet.b.proj.weight"]),
        ({"state_dict": part("a"), "first_stage_model": part("b")}, ["a.proj.weight"]),
        ({"model": part("a"), "discriminator": part("b")}, ["a.proj.weight"]),
        ({"net": part("a"), "loss": part("b"), "teacher": part("c")}, ["a.proj.weight"]),
        ({"params": torch.ones(1)}, ["params"]),
        ({"unet": part("a"), "optimizer": part("b")}, ["unet.a.proj.weight"]),
    ],
)
def test_a_wrapper_comes_off_only_where_no_other_weights_are_beside_it(
    root: dict[str, Any], names: list[str], tmp_path: Path
) -> None:
    assert sorted(saved(tmp_path / "f", root).names()) == sorted(names)


@pytest.mark.parametrize("style", FORMATS)
def test_a_whole_model_of_parts_keeps_all_of_them(style: str, tmp_path: Path) -> None:
    net = torch.nn.ModuleDict({name: torch.nn.Linear(2, 3) for name in PARTS})
    whole = torch.nn.Module()
    for name, module in net.items():
        whole.add_module(name, module)
    assert_same(saved(tmp_path / "f", whole, style), dict(whole.state_dict()))


@pytest.mark.parametrize("style", FORMATS)
@pytest.mark.parametrize("root", [lambda state: state, lambda state: {"state_dict": state}], ids=["bare", "wrapped"])
def test_tensors_and_arrays_are_read_side_by_side(root: Any, style: str, tmp_path: Path) -> None:
    state = {
        "a": torch.ones(2),
        "b": np.arange(3, dtype=np.float32),
        "no side": np.array(2, dtype=np.int64),
        "number": np.float32(1),
        "objects": np.array([None, "x"], dtype=object),
    }
    expected = {"a": torch.ones(2), "b": torch.arange(3.0), "no side": torch.tensor(2)}
    assert_same(saved(tmp_path / "f", root(state), style), expected)


@pytest.mark.parametrize("style", FORMATS)
def test_tensors_of_devices_without_storages_are_read_as_torch_reads_them(style: str, tmp_path: Path) -> None:
    """Of TPUs and their like: a copy as a tensor, in older files as an array, which knows no bfloat16."""
    numbers = torch.arange(6.0).reshape(2, 3)
    root = {
        "tensor": Call(torch._utils._rebuild_device_tensor_from_cpu_tensor, numbers.t(), torch.float32, "cpu", False),
        "array": Call(torch._utils._rebuild_device_tensor_from_numpy, numbers.numpy(), torch.float32, "cpu", False),
        "bfloat16": Call(torch._utils._rebuild_device_tensor_from_numpy, numbers.numpy(), torch.bfloat16, "cpu", False),
    }
    source = saved(tmp_path / "f", root, style)
    assert_same(source, torch.load(tmp_path / "f", weights_only=False))
    assert source.dtype("bfloat16") == torch.bfloat16
    renamed = (tmp_path / "f").read_bytes().replace(b"_rebuild_device_tensor_from_numpy", b"_rebuild_xla_tensor")
    if style == "legacy":  # an archive knows the lengths of its members
        assert_same(PickleSource(write(tmp_path / "g", renamed)), torch.load(tmp_path / "f", weights_only=False))


def test_an_array_is_not_made_a_tensor_of_wider_numbers(tmp_path: Path) -> None:
    wide = Call(torch._utils._rebuild_device_tensor_from_numpy, np.zeros(4, np.uint8), torch.float64, "cpu", False)
    with pytest.raises(ModelError, match=r"an array of u1 for a tensor of torch\.float64"):
        saved(tmp_path / "f", {"a": wide})


def test_old_files_of_protocol_1_are_read_and_those_of_0_say_why_not(tmp_path: Path) -> None:
    state = {"a": torch.ones(2)}
    assert_same(saved(tmp_path / "f", state, "legacy", pickle_protocol=1), state)
    with pytest.raises(ModelError, match="save with protocol 2"):
        saved(tmp_path / "f", state, "legacy", pickle_protocol=0)


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


def test_old_files_of_a_big_endian_machine_are_read_as_torch_reads_them(tmp_path: Path) -> None:
    """Before the zip archives, torch wrote numbers in one order on all machines, and the order of its own beside."""
    tensors = {"a": torch.tensor([1.5, -2.0, 3.25]), "b": torch.tensor([7, 8])}
    torch.save(tensors, tmp_path / "f", **FORMATS["legacy"])
    before, said, after = (tmp_path / "f").read_bytes().partition(b"little_endian")
    path = write(tmp_path / "g", before + said + after.replace(pickle.NEWTRUE, pickle.NEWFALSE, 1))
    read = torch.load(path, weights_only=True)
    assert_same(PickleSource(path), read)
    assert_same(PickleSource(path), tensors)


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
