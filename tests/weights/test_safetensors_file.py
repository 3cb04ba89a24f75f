"""The mapped safetensors reader: every dtype, no copies, and every way in which a header can lie."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from helpers.ends import reached, reaches
from helpers.weights import entry, raw_safetensors, write
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from sdedit_cli.errors import ModelError
from sdedit_cli.weights import open_weights
from sdedit_cli.weights.formats.mapped_file import adopt, mapped_file_of, release
from sdedit_cli.weights.formats.safetensors import TAGS, SafetensorsFile


@pytest.mark.parametrize("name", TAGS)
def test_every_dtype_comes_back_bit_for_bit(name: str, tmp_path: Path) -> None:
    dtype = TAGS[name]
    raw = torch.arange(1, 1 + 6 * dtype.itemsize, dtype=torch.uint8)
    tensor = (raw % 2 == 1) if dtype == torch.bool else raw.view(dtype)
    save_file({"t": tensor.reshape(2, 3), "none": tensor[:0], "one": tensor[:1].reshape(()).clone()}, tmp_path / "f")
    source = open_weights(tmp_path / "f")
    assert {n: source.shape(n) for n in source.names()} == {"t": (2, 3), "none": (0,), "one": ()}
    assert {source.dtype(n) for n in source.names()} == {dtype}
    assert torch.equal(source.get("t").view(torch.uint8), tensor.reshape(2, 3).view(torch.uint8))
    assert source.get("none").shape == (0,)
    assert source.get("one").shape == ()


@pytest.mark.parametrize(
    ("tag", "shape", "size"),
    [
        ("F4", [2, 3], 3),
        ("F6_E2M3", [4], 3),
        ("F6_E3M2", [2, 2], 3),
        ("F8_E8M0", [3], 3),
        ("F8_E4M3FNUZ", [], 1),
        ("F8_E5M2FNUZ", [0], 0),
    ],
)
def test_a_dtype_that_no_weights_have_is_refused_where_it_is_asked_for(
    tag: str, shape: list[int], size: int, tmp_path: Path
) -> None:
    header = {"a": entry("U8", [2], 0, 2), "odd": entry(tag, shape, 2, 2 + size)}
    source = open_weights(write(tmp_path / "f", raw_safetensors(header, bytes(2 + size))))
    assert source.get("a").tolist() == [0, 0]
    assert source.shape("odd") == tuple(shape)
    assert list(source.unreadable) == ["odd"]
    with pytest.raises(ModelError, match=f"the tensor 'odd' is of the dtype {tag}"):
        source.get("odd")


def test_metadata_and_an_empty_file_of_no_tensors(tmp_path: Path) -> None:
    source = open_weights(write(tmp_path / "f", raw_safetensors({"__metadata__": {"a": "b"}})))
    assert source.names() == []
    assert source.metadata == {"a": "b"}
    # Some writers say that there is none.
    source = open_weights(
        write(tmp_path / "f", raw_safetensors({"__metadata__": None, "x": entry("U8", [1], 0, 1)}, b"0"))
    )
    assert (source.names(), source.metadata) == (["x"], {})


def test_tensors_are_views_of_the_file_and_adopted_ones_leave_the_source_alone(tmp_path: Path) -> None:
    """Parameters made of mapped memory can be overwritten, and the source still has the base weights."""
    save_file({"a": torch.ones(4096), "b": torch.zeros(4096)}, tmp_path / "f")
    before = (tmp_path / "f").read_bytes()
    source = SafetensorsFile(tmp_path / "f")
    assert mapped_file_of(source.get("a")) is not None
    mine = adopt(source.get("a"))
    assert mine.data_ptr() != source.get("a").data_ptr()
    mine.fill_(7)
    release(source.get("a"))
    assert torch.equal(source.get("a"), torch.ones(4096))
    assert torch.equal(mine, torch.full((4096,), 7.0))
    assert (tmp_path / "f").read_bytes() == before


def test_a_tensor_outlives_its_source(tmp_path: Path) -> None:
    save_file({"a": torch.arange(5)}, tmp_path / "f")
    tensor = SafetensorsFile(tmp_path / "f").get("a")
    assert tensor.tolist() == [0, 1, 2, 3, 4]


def test_misaligned_data_is_read_right(tmp_path: Path) -> None:
    """Nothing in the format forces the header to end on a multiple of the element size."""
    header = json.dumps({"a": entry("F64", [2], 0, 16)}).encode()
    header += b" " * (7 - len(header) % 8)
    data = torch.tensor([1.5, -2.5], dtype=torch.float64)
    path = write(tmp_path / "f", raw_safetensors(header, bytes(data.numpy().tobytes())))
    assert torch.equal(SafetensorsFile(path).get("a"), data)


F32 = entry("F32", [2], 0, 8)
DAMAGED = {
    "no header length": (b"abc", "cut short"),
    "header cut short": (raw_safetensors({"a": F32})[:20], "cut short"),
    "data cut short": (raw_safetensors({"a": F32}, b"1234"), "ends at byte"),
    "header of 4 GB": (raw_safetensors({"a": F32}, b"12345678", length=2**32), "header of 4294967296 bytes"),
    "header of 16 EB": (raw_safetensors({"a": F32}, length=2**64 - 1), "header of 18446744073709551615 bytes"),
    "not JSON": (raw_safetensors(b"{nope}"), "not JSON"),
    "not UTF-8": (raw_safetensors(b'{"\xff": 1}'), "not JSON"),
    "JSON too deep": (raw_safetensors(b'{"a":' + b"[" * 200_000), "not JSON"),
    "not an object": (raw_safetensors([1]), "JSON list"),
    "entry not an object": (raw_safetensors({"a": 3}), "'a' has no dtype"),
    "same key twice": (raw_safetensors(b'{"a": {}, "a": {}}'), "'a' is there twice"),
    "unknown dtype": (raw_safetensors({"a": entry("F7", [2], 0, 8)}), "unknown dtype 'F7'"),
    "half a byte over": (raw_safetensors({"a": entry("F4", [3], 0, 2)}, b"12"), "2 bytes long"),
    "bytes for halves": (raw_safetensors({"a": entry("F4", [2], 0, 2)}, b"12"), "2 bytes long"),
    "dtype is a list": (raw_safetensors({"a": {**F32, "dtype": ["F32"]}}), "unknown dtype"),
    "negative offset": (raw_safetensors({"a": entry("F32", [2], -8, 0)}), "offsets [-8, 0]"),
    "offsets reversed": (raw_safetensors({"a": entry("F32", [2], 8, 0)}, b"12345678"), "offsets [8, 0]"),
    "three offsets": (raw_safetensors({"a": {**F32, "data_offsets": [0, 8, 8]}}, b"12345678"), "offsets"),
    "offset is a float": (raw_safetensors({"a": {**F32, "data_offsets": [0, 8.0]}}, b"12345678"), "offsets"),
    "offset is true": (raw_safetensors({"a": entry("U8", [1], 0, 1) | {"data_offsets": [0, True]}}, b"1"), "offsets"),
    "negative side": (raw_safetensors({"a": entry("F32", [-2], 0, 8)}, b"12345678"), "shape [-2]"),
    "shape is text": (raw_safetensors({"a": {**F32, "shape": "2"}}, b"12345678"), "shape 2"),
    "shape overflows": (raw_safetensors({"a": entry("U8", [2**62, 4, 0], 0, 0)}), "shape"),
    "shape larger than bytes": (raw_safetensors({"a": entry("F32", [3], 0, 8)}, b"12345678"), "8 bytes long"),
    "overlap": (raw_safetensors({"a": F32, "b": entry("F32", [2], 4, 12)}, b"1" * 12), "'b' at byte"),
    "hole": (raw_safetensors({"a": entry("F32", [2], 4, 12)}, b"1" * 12), "follows a hole"),
    "trailing bytes": (raw_safetensors({"a": F32}, b"1" * 9), "1 bytes follow"),
    "metadata not an object": (raw_safetensors({"__metadata__": 3}), "__metadata__"),
    "metadata a list": (raw_safetensors({"__metadata__": []}), "__metadata__"),
    "metadata not text": (raw_safetensors({"__metadata__": {"a": 1}}), "__metadata__"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_header_is_refused_with_its_problem(case: str, tmp_path: Path) -> None:
    content, problem = DAMAGED[case]
    path = write(tmp_path / "weights.safetensors", content)
    with pytest.raises(ModelError) as error:
        SafetensorsFile(path)
    assert str(path) in str(error.value)
    assert problem in str(error.value)
    assert len(str(error.value).splitlines()) <= 2


def test_missing_files_folders_and_names_are_model_errors(tmp_path: Path) -> None:
    for path, problem in ((tmp_path / "no", "no such file"), (tmp_path, "folder")):
        with pytest.raises(ModelError, match=problem):
            SafetensorsFile(path)
    save_file({"a": torch.ones(1)}, tmp_path / "f")
    with pytest.raises(ModelError, match="no tensor 'b'"):
        SafetensorsFile(tmp_path / "f").get("b")


SOUND = raw_safetensors({"a": F32, "bb": entry("I64", [1, 1], 8, 16)}, bytes(16))


@reaches(read=3, refused=100)
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_fuzzed_bytes_are_read_or_refused_and_nothing_else(tmp_path: Path, data: st.DataObject) -> None:
    """Flipped, cut and inserted bytes end in tensors inside the file or in a ModelError."""
    content = bytearray(SOUND)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(content)))
        content[place : place + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    path = write(tmp_path / "f", bytes(content))
    try:
        source = SafetensorsFile(path)
        for name in source.names():
            assert source.get(name).shape == source.shape(name)
    except ModelError:
        reached("refused")
        return
    reached("read")
