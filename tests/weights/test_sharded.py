"""Sharded checkpoints: one source over several files, and an index that may not reach outside its folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from sdedit_cli.errors import ModelError
from sdedit_cli.weights import open_weights


def index(folder: Path, content: Any) -> Path:
    path = folder / "model.safetensors.index.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def test_shards_read_as_one(tmp_path: Path) -> None:
    save_file({"a": torch.ones(2)}, tmp_path / "1.safetensors")
    save_file({"b": torch.zeros(3, dtype=torch.int32)}, tmp_path / "2.safetensors")
    source = open_weights(index(tmp_path, {"weight_map": {"a": "1.safetensors", "b": "2.safetensors"}}))
    assert source.names() == ["a", "b"]
    assert source.shape("b") == (3,)
    assert source.dtype("b") == torch.int32
    assert torch.equal(source.get("a"), torch.ones(2))


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ({}, "weight_map"),
        ({"weight_map": []}, "weight_map"),
        ({"weight_map": {"a": "../1.safetensors"}}, "same folder"),
        ({"weight_map": {"a": "/etc/passwd"}}, "same folder"),
        ({"weight_map": {"a": "..\\1.safetensors"}}, "same folder"),
        ({"weight_map": {"a": ".."}}, "same folder"),
        ({"weight_map": {"a": "gone.safetensors"}}, "no such file"),
        ({"weight_map": {"b": "1.safetensors"}}, "where it is not"),
        ({"weight_map": {"a": "1" * 300}}, "same folder"),
        ({"weight_map": {"a": "model.safetensors.index.json"}}, "is a JSON file"),
    ],
)
def test_a_bad_index_is_refused(content: Any, problem: str, tmp_path: Path) -> None:
    save_file({"a": torch.ones(2)}, tmp_path / "1.safetensors")
    with pytest.raises(ModelError, match=problem):
        open_weights(index(tmp_path, content))


@pytest.mark.parametrize("before", ["\ufeff", " \ufeff\n", "\r\n\t"])
def test_an_index_names_no_index_whatever_it_begins_with(before: str, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors.index.json"
    path.write_text(before + json.dumps({"weight_map": {"a": path.name}}), encoding="utf-8")
    (tmp_path / "outer.json").write_text(json.dumps({"weight_map": {"a": path.name}}), encoding="utf-8")
    with pytest.raises(ModelError, match="is a JSON file, expected the weights"):
        open_weights(tmp_path / "outer.json")
