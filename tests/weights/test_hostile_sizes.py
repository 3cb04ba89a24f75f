"""Small files that claim names, shapes or messages of any size: refused at once, in words fit for a terminal."""

from __future__ import annotations

import json
import pickle
import struct
import time
import tracemalloc
import zipfile
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from helpers.weights import entry, raw_safetensors, unpickled, write

import sdedit_cli.weights.formats.open as opening
from sdedit_cli.configs.base import LARGEST_TEXT
from sdedit_cli.configs.model_block import ModelBlock, read_block
from sdedit_cli.errors import ModelError, shown
from sdedit_cli.weights import open_weights
from sdedit_cli.weights.formats.flax import FlaxSource
from sdedit_cli.weights.formats.torchfile.arrays import is_sound
from sdedit_cli.weights.formats.torchfile.source import PickleSource
from sdedit_cli.weights.formats.torchfile.state_dict import contents
from sdedit_cli.weights.formats.torchfile.values import ArrayRef, BadPickle


@pytest.mark.parametrize("shape", [(1,) * 33, (2**8000,) * 5000, (2**62,), (0, 2**31, 2**61)])
def test_shapes_of_pickled_arrays_are_checked_before_they_are_multiplied(shape: tuple[int, ...]) -> None:
    with pytest.raises(BadPickle, match="numpy array of shape"):
        is_sound(ArrayRef(code="<f4", shape=shape, data=b"", fortran=False))


def test_long_names_over_many_containers_are_refused_before_they_are_joined(tmp_path: Path) -> None:
    tree = {"k" * 5000: {str(number): {} for number in range(100)}, "w": torch.ones(1)}
    torch.save(tree, tmp_path / "f")
    with pytest.raises(ModelError, match="1024 characters"):
        PickleSource(tmp_path / "f")
    flax = b"\x81\xda" + (5000).to_bytes(2, "big") + b"k" * 5000 + b"\x81\xa1a\x80"
    with pytest.raises(ModelError, match="1024 characters"):
        FlaxSource(write(tmp_path / "g", flax))


@pytest.mark.parametrize("kind", [MemoryError, RecursionError])
def test_a_reader_out_of_memory_says_so(kind: type[Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: Path) -> None:
        raise kind

    monkeypatch.setattr(opening, "SafetensorsFile", fail)
    with pytest.raises(ModelError, match="memory"):
        open_weights(write(tmp_path / "f", raw_safetensors({"a": entry("F32", [1], 0, 4)}, bytes(4))))


def test_safetensors_names_and_shapes_are_bounded(tmp_path: Path) -> None:
    for shape in ([1] * 33, [10**4000] * 5000):
        with pytest.raises(ModelError, match="has the shape"):
            open_weights(write(tmp_path / "f", raw_safetensors({"a": entry("F32", shape, 0, 4)}, bytes(4))))
    one = json.dumps(entry("F32", [1], 0, 4))
    names = [*range(50_000), 49_999]
    header = "{" + ",".join(f'"{name}":{one}' for name in names) + "}"
    with pytest.raises(ModelError, match="'49999' is there twice"):
        open_weights(write(tmp_path / "f", raw_safetensors(header.encode())))


@pytest.mark.parametrize("part", [b"[],", b"{},", b"1,"])
def test_a_header_of_parts_without_end_is_refused_before_they_are_made(part: bytes, tmp_path: Path) -> None:
    path = write(tmp_path / "f", raw_safetensors(b'{"a": [' + part * 2_000_001 + b"1]}"))
    tracemalloc.start()
    with pytest.raises(ModelError, match=r"header is not JSON .it has more than 2,000,000 parts"):
        open_weights(path)
    assert read_block(path) == ModelBlock()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5 * path.stat().st_size


def test_text_of_a_file_reaches_the_terminal_printable_and_short(tmp_path: Path) -> None:
    assert shown("a.b") == "a.b"
    assert shown("\x1b[2J") == "\\x1b[2J"
    assert len(shown("x" * 1000)) == 80
    nasty = "\x1b[2J" + "n" * 5000
    for content in (pickle.dumps({nasty: 1}, 2), raw_safetensors({nasty: {"dtype": nasty}})):
        with pytest.raises(ModelError) as error:
            open_weights(write(tmp_path / "f", content))
        assert "\x1b" not in str(error.value)
        assert len(str(error.value)) < 400 + len(str(tmp_path))


def text(content: str) -> bytes:
    return b"X" + struct.pack("<I", len(content)) + content.encode()


def nested(make: bytes, add: bytes, levels: int = 40) -> bytes:
    """Containers of the one before, twice: 2 to the power of `levels` parts to whoever follows them all."""
    return (
        make
        + b"q\x000"
        + b"".join(make + add % ((bytes([i]),) * 2) + b"q" + bytes([i + 1]) + b"0" for i in range(levels))
    )


def again(prefix: bytes, times: int, part: bytes) -> bytes:
    return prefix + part * times + b"."


def colliding(count: int, entry: bytes) -> bytes:
    """Integers that hash to the same, as they are hashed modulo 2**61 - 1."""
    return b"".join(entry % (b"\x8a\x0c" + (i * (2**61 - 1)).to_bytes(12, "little")) for i in range(1, count))


def under_numbers(parts: int, names: int) -> bytes:
    """One list of empty dicts under many numbers."""
    shared = b"](" + b"}" * parts + b"eq\x000"
    return b"\x80\x02" + shared + b"}(" + b"".join(b"J%bh\x00" % struct.pack("<i", i) for i in range(names)) + b"u."


HEAD = b"".join(pickle.dumps(part, 2) for part in (0x1950A86A20F9469CFC6C, 1001, {}))
LISTS = nested(b"]", b"(h%bh%be")
STORAGE = b"(U\x07storagectorch\nFloatStorage\nU\x010U\x03cpuK\x01tQ"
TENSOR = b"ctorch._utils\n_rebuild_tensor_v2\n(" + STORAGE + b"K\x00K\x01\x85K\x01\x85\x89}tR"
TWO_LONG_TEXTS = text("a" * 10**6) + b"q\x000" + text("a" * 10**6) + b"q\x010"
BUFFER = b"\x96" + struct.pack("<Q", 2**20) + bytes(2**20) + b"q\x010"
HUNDREDS = b"".join(
    b"}(" + b"".join(b"K%bh%b" % (bytes([i]), bytes([level])) for i in range(100)) + b"uq%b0" % bytes([level + 1])
    for level in range(3)
)
BOMBS = {
    "a dtype of nested lists": LISTS + b"cnumpy\ndtype\nh\x28\x85R.",
    "a storage's name of nested lists": HEAD + b"\x80\x02}.\x80\x02" + LISTS + b"]h\x28a.",
    "a view's name of nested lists": HEAD + LISTS + STORAGE[:-4] + b"K\x04(h\x28K\x09K\x01ttQ.",
    "one shape again and again": again(
        b"ctorch\nSize\nq\x000(" + b"K\x01" * 100_000 + b"t\x85q\x010]", 4000, b"h\x00h\x01Ra"
    ),
    "one list of arguments again and again": again(
        b"ccollections\nOrderedDict\nq\x000(" + b"N" * 100_000 + b"tq\x010]", 4000, b"h\x00h\x01Ra"
    ),
    "one buffer again and again": again(
        b"cnumpy\ndtype\nU\x02u1\x85Rq\x000" + BUFFER + b"K\x01\x85q\x020cnumpy.core.numeric\n_frombuffer\nq\x030]",
        200,
        b"h\x03(h\x01h\x00h\x02U\x01CtRa",
    ),
    "a name of many parts": b"\x80\x04" + text("a." * 150_000 + "a") + text("b") + b"\x93.",
    "many names of many parts": text("a." * 200 + "a")
    + b"q\x000"
    + b"".join(b"h\x00" + text(f"b{i}") + b"\x930" for i in range(200_000))
    + b".",
    "equal long keys": again(TWO_LONG_TEXTS + b"}", 300_000, b"h\x00Nsh\x01Ns"),
    "equal long tuples as keys": again(
        TWO_LONG_TEXTS + b"(" + b"h\x00" * 64 + b"tq\x020(" + b"h\x01" * 64 + b"tq\x030}", 12_000, b"h\x02Nsh\x03Ns"
    ),
    "large integers as keys": again(
        b"\x8a\xff" + b"\x7f" * 255 + b"q\x000(" + b"h\x00" * 64 + b"tq\x010}", 60_000, b"h\x01Ns"
    ),
    "colliding keys": b"}(" + colliding(40_000, b"%bN") + b"u.",
    "colliding members": b"\x8f(" + colliding(40_000, b"%b") + b"\x90.",
    "colliding members of a frozen set": b"(" + colliding(40_000, b"%b") + b"\x91.",
    "colliding places": b"N" + b"".join(b"p%d\n" % (i * (2**61 - 1)) for i in range(40_000)) + b".",
    "objects that share their parts": b"cargparse\nNamespace\nq\x000}"
    + text("_parameters")
    + b"}("
    + b"".join(text(f"k{i}") + b"N" for i in range(8000))
    + b"usq\x010}"
    + text("model")
    + b"}("
    + b"".join(text(f"o{i}") + b"h\x00)\x81h\x01b" for i in range(8000))
    + b"us.",
    "one long list under many numbers": under_numbers(5000, 2000),
    "names of a kilobyte": b"\x80\x02" + TENSOR + b"q\x000" + HUNDREDS + b"}" + text("a" * 1000) + b"h\x03s.",
}


def packed(path: Path, content: bytes) -> Path:
    """The pickle alone, or with the storage that it speaks of."""
    if TENSOR not in content:
        return write(path, content)
    with zipfile.ZipFile(path, "w") as target:
        target.writestr("archive/data.pkl", content)
        target.writestr("archive/data/0", bytes(4))
    return path


@pytest.mark.parametrize("case", BOMBS)
def test_work_and_memory_are_bounded_by_the_file(case: str, tmp_path: Path) -> None:
    path = packed(tmp_path / "f", BOMBS[case])
    tracemalloc.start()
    began = time.process_time()
    with pytest.raises(ModelError) as error:
        PickleSource(path)
    took, peak = time.process_time() - began, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert took < 4
    assert peak < 150_000_000
    assert len(str(error.value)) < 400 + len(str(tmp_path))


def test_one_list_under_many_numbers_is_made_a_dict_once() -> None:
    root = cast("dict[str, object]", unpickled(under_numbers(16, 10_000)))
    tracemalloc.start()
    assert contents(root)[0] == {}
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 6_000_000


@pytest.mark.parametrize("name", ["data.pkl", "byteorder"])
def test_members_of_an_archive_that_are_no_weights_are_not_read_whatever_their_size(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sdedit_cli.weights.formats.torchfile.source._PICKLE_LIMIT", 1_000_000, raising=False)
    members = {"data.pkl": b"\x80\x02}.", "byteorder": b"little", name: bytes(5_000_000)}
    with zipfile.ZipFile(tmp_path / "f", "w") as target:
        for member, content in members.items():
            target.writestr(f"archive/{member}", content)
    tracemalloc.start()
    said = "5 MB beside its storages, expected 1 at most" if name == "data.pkl" else "holds no tensors"
    with pytest.raises(ModelError, match=said):
        PickleSource(tmp_path / "f")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000


def test_a_large_file_that_begins_as_json_is_not_read_to_its_end(tmp_path: Path) -> None:
    path = write(tmp_path / "f", b'{"weight_map": ')
    with path.open("r+b") as file:
        file.truncate(LARGEST_TEXT + 1)
    with pytest.raises(ModelError, match="has more than 64 MB; expected weights"):
        open_weights(path)


@pytest.mark.parametrize("opcode", [b"\x8f", b"]", b"}", b"(", b"cfoo\nBar\n"])
def test_what_leaves_more_behind_counts_for_more(opcode: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sdedit_cli.weights.formats.torchfile.budget.OPERATION_LIMIT", 1000)
    with pytest.raises(BadPickle, match="operations"):
        unpickled(opcode * 300 + b".")


def test_the_captions_of_a_dataset_are_no_attack() -> None:
    texts = [f"a picture of {number}" for number in range(1_000_000)]
    assert unpickled(pickle.dumps(texts, 2)) == texts


def test_one_buffer_under_many_names_makes_no_large_model(tmp_path: Path) -> None:
    array = np.zeros(2**20, dtype=np.uint8)
    source = PickleSource(write(tmp_path / "f", pickle.dumps({f"a{i}": array for i in range(100)}, 4)))
    assert source.get("a0").shape == (2**20,)
    with pytest.raises(ModelError, match=r"'a99' .* repeats numbers"):
        source.get("a99")


def test_one_tree_under_many_names_is_looked_at_once(tmp_path: Path) -> None:
    tree = b"}(" + b"".join(text(f"a{i}") + b"}" for i in range(3000)) + b"uq\x000"
    beside = b"".join(text(f"b{i}") + b"h\x00" for i in range(3000))
    content = tree + b"}(" + text("model") + b"}" + text("weight") + TENSOR + b"s" + beside + b"u."
    began = time.process_time()
    assert PickleSource(packed(tmp_path / "f", content)).names() == ["weight"]
    assert time.process_time() - began < 2
