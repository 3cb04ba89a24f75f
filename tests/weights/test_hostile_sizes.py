"""Small files that claim names, shapes or messages of any size: refused at once, in words fit for a terminal."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
import torch
from helpers.weights import entry, raw_safetensors, write

import sdedit_cli.weights.open as opening
from sdedit_cli.errors import ModelError, shown
from sdedit_cli.weights import open_weights
from sdedit_cli.weights.flax_msgpack import FlaxSource
from sdedit_cli.weights.pickle_reader import PickleSource, _is_sound
from sdedit_cli.weights.pickle_values import ArrayRef, BadPickle


@pytest.mark.parametrize("shape", [(1,) * 33, (2**8000,) * 5000, (2**62,)])
def test_shapes_of_pickled_arrays_are_checked_before_they_are_multiplied(shape: tuple[int, ...]) -> None:
    with pytest.raises(BadPickle, match="dimensions"):
        _is_sound(ArrayRef(dtype="<f4", shape=shape, data=b"", fortran=False))


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
