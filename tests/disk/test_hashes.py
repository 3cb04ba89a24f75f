"""Hashes of models."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from sdedit_cli.disk import hashes
from sdedit_cli.disk.hashes import file_hash, model_hash, payload_hash, remembered_hash


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
    # Before weights of a variant alone, others are read.
    os.rename(weights, variant := tmp_path / "unet" / "w.fp16.safetensors")
    before = model_hash(tmp_path)
    other.write_bytes(b"5")
    assert model_hash(tmp_path) != before
    os.rename(variant, weights)
    # A variant may be asked for by its name.
    (tmp_path / "unet" / "w.fp16.bin").write_bytes(b"6")
    before = model_hash(tmp_path)
    (tmp_path / "unet" / "w.fp16.bin").write_bytes(b"7")
    assert model_hash(tmp_path) != before
    component = model_hash(tmp_path / "unet")
    weights.write_bytes(b"4")
    assert model_hash(tmp_path / "unet") != component


def test_web_uis_know_an_adapter_by_what_follows_its_header(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever its header says; files of other kinds by all of their bytes, and a broken one without an error."""
    monkeypatch.setattr(hashes, "_WORTH_KEEPING", 1)
    monkeypatch.setattr(hashes, "cache_folder", lambda: tmp_path)
    one, two, pickle, broken = (tmp_path / name for name in ("a.safetensors", "b.safetensors", "c.pt", "d.safetensors"))
    for path, header in ((one, b"{}"), (two, b'{"__metadata__": {"title": "x"}}')):
        path.write_bytes(len(header).to_bytes(8, "little") + header + b"tensors")
    pickle.write_bytes(one.read_bytes())
    broken.write_bytes(b"\xff" * 20)
    wanted = hashlib.sha256(b"tensors").hexdigest()
    for _ in range(2):
        assert [payload_hash(one), payload_hash(two)] == [wanted, wanted]
        assert remembered_hash(one) == payload_hash(pickle) == file_hash(pickle) != wanted
        assert payload_hash(broken) == hashlib.sha256(b"").hexdigest()
    assert payload_hash(tmp_path) == ""


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no such files")
@pytest.mark.parametrize("content", [b"[" * 200_000, b"\xff\xfe", b"7", None], ids=["deep", "bytes", "number", "pipe"])
def test_a_broken_memory_of_hashes_is_passed_over(
    content: bytes | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hashes, "cache_folder", lambda: tmp_path / "cache")
    (tmp_path / "cache").mkdir()
    if content is not None:
        (tmp_path / "cache" / "hashes.json").write_bytes(content)
    elif hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "cache" / "hashes.json")
    large = tmp_path / "large.safetensors"
    large.write_bytes(bytes(9 << 20))
    assert remembered_hash(large) == file_hash(large)


def test_what_may_have_no_end_has_no_hash(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(OSError, match="may never end"):
            file_hash(path)
    assert file_hash(os.devnull) == hashlib.sha256().hexdigest()
