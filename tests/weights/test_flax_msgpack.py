"""Flax's msgpack files: arrays of every dtype, split ones, and files that do not hold what they say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.ends import reached, reaches
from helpers.weights import msgpack, write
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sdedit_cli.errors import ModelError
from sdedit_cli.weights import open_weights
from sdedit_cli.weights.formats.flax import FlaxSource


@pytest.mark.parametrize(
    "name", ["float32", "float16", "bfloat16", "float64", "int8", "int64", "uint8", "uint32", "bool"]
)
def test_arrays_of_every_dtype_get_dotted_names(name: str, tmp_path: Path) -> None:
    tensor = torch.arange(6).to(getattr(torch, name)).reshape(2, 3)
    tree = {
        "down_blocks_0": {"conv": {"kernel": tensor}},
        "step": 7,
        "scalar": tensor[0, 0].clone(),
        "empty": tensor[:0],
    }
    source = open_weights(write(tmp_path / "f", msgpack(tree)))
    assert source.names() == ["down_blocks_0.conv.kernel", "scalar", "empty"]
    assert source.shape("empty") == (0, 3)
    assert source.dtype("scalar") == tensor.dtype
    assert torch.equal(source.get("down_blocks_0.conv.kernel"), tensor)


def test_variables_that_are_called_params_are_the_weights(tmp_path: Path) -> None:
    tree = {"params": {"conv": {"kernel": torch.ones(2)}}}
    assert FlaxSource(write(tmp_path / "f", msgpack(tree))).names() == ["conv.kernel"]
    beside = {**tree, "step": torch.ones(1)}
    assert FlaxSource(write(tmp_path / "f", msgpack(beside))).names() == ["params.conv.kernel", "step"]


def test_split_arrays_are_joined(tmp_path: Path) -> None:
    tensor = torch.arange(24.0).reshape(12, 2)
    pieces = {str(i): piece for i, piece in enumerate(tensor.view(-1).split(2))}
    split = {"__msgpack_chunked_array__": True, "shape": {"0": 12, "1": 2}, "chunks": pieces}
    source = FlaxSource(write(tmp_path / "f", msgpack({"a": split, "b": tensor})))
    assert source.shape("a") == (12, 2)
    assert torch.equal(source.get("a"), tensor)


def test_what_the_msgpack_library_writes_is_read(tmp_path: Path) -> None:
    """Short forms of every kind; our test writer uses the long ones."""
    library = pytest.importorskip("msgpack")

    def default(tensor: torch.Tensor) -> Any:
        triple = (list(tensor.shape), "float32", bytes(tensor.numpy()))
        return library.ExtType(1, library.packb(triple, use_bin_type=True))

    tree = {
        "a": {f"w{i}": torch.full((i,), float(i)) for i in range(20)},
        "n": [-1, 200, 70000, 2**40, -200, 1.5, None],
    }
    source = open_weights(write(tmp_path / "f", library.packb(tree, default=default)))
    assert {name: source.get(name).tolist() for name in source.names()} == {f"a.w{i}": [i] * i for i in range(20)}


ARRAY = torch.arange(4.0)
DAMAGED = {
    "no arrays": (msgpack({"a": 3}), "holds no arrays"),
    "a list": (msgpack([ARRAY]), "not hold a dictionary"),
    "trailing bytes": (msgpack({"a": ARRAY}) + b"\0", "1 bytes follow"),
    "cut short": (msgpack({"a": ARRAY})[:-3], "cut short"),
    "4 G entries": (b"\xdf\xff\xff\xff\xff" + msgpack("a"), "cut short"),
    "4 GB of bytes": (b"\x81\xa1a\xc6\xff\xff\xff\xff", "cut short"),
    "same key twice": (b"\x82" + (msgpack("a") + msgpack(ARRAY)) * 2, "there twice"),
    "same name in two ways": (msgpack({"a.b": ARRAY, "a": {"b": ARRAY + 1}}), "the same name"),
    "key is a list": (b"\x81\x90" + msgpack(ARRAY), "is no name"),
    "nested without end": (b"\x81\xa1a" * 100 + b"\xc0", "nested"),
    "half a million lists": (b"\x81\xa1a\xdd" + (500_000).to_bytes(4, "big") + b"\x90" * 500_000, "split beyond"),
    "reserved code": (b"\x81\xa1a\xc1", "0xC1"),
    "unknown dtype": (msgpack({"a": ARRAY}).replace(b"float32", b"floaty2"), "dtype"),
    "shape larger than bytes": (msgpack({"a": ARRAY}).replace((4).to_bytes(8, "big"), (5).to_bytes(8, "big")), "shape"),
    "sides that nothing holds": (
        b"\x81\xa1a\xc7\x1f\x01\x93\x93" + (b"\xcf" + (2**47).to_bytes(8, "big")) * 2 + b"\0\xa7float32\xc4\0",
        "shape",
    ),
    "negative side": (msgpack({"a": ARRAY}).replace((4).to_bytes(8, "big"), b"\xff" * 8), "shape"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_file_is_refused_with_its_problem(case: str, tmp_path: Path) -> None:
    content, problem = DAMAGED[case]
    path = write(tmp_path / "f", content)
    with pytest.raises(ModelError) as error:
        FlaxSource(path)
    assert problem in str(error.value)
    assert str(path) in str(error.value)


@reaches(read=3, refused=100)
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_fuzzed_files_are_read_or_refused(tmp_path: Path, data: st.DataObject) -> None:
    content = bytearray(msgpack({"a": {"b": ARRAY}, "c": torch.ones(1, 2), "n": 1}))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(content)))
        content[place : place + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    try:
        source = FlaxSource(write(tmp_path / "f", bytes(content) or b"\0"))
        for name in source.names():
            assert tuple(source.get(name).shape) == source.shape(name)
    except ModelError:
        reached("refused")
        return
    reached("read")
