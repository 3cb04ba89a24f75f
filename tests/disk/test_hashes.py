"""Hashes of models."""

from __future__ import annotations

from pathlib import Path

from sdedit_cli.disk.hashes import file_hash, model_hash


def test_the_hash_of_a_folder_covers_what_is_loaded_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "unet").mkdir()
    weights, other = tmp_path / "unet" / "w.safetensors", tmp_path / "unet" / "w.bin"
    weights.write_bytes(b"1")
    first = model_hash(tmp_path)
    other.write_bytes(b"2")
    (tmp_path / "README.md").write_text("x")
    assert model_hash(tmp_path) == first
    weights.write_bytes(b"3")
    assert model_hash(tmp_path) != first
    assert model_hash(weights) == file_hash(weights)
    component = model_hash(tmp_path / "unet")
    weights.write_bytes(b"4")
    assert model_hash(tmp_path / "unet") != component
