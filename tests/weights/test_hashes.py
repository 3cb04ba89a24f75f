"""Hashes as web UIs show them, and a cache that is never wrong and never in the way."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

from sdedit_cli.errors import ModelError
from sdedit_cli.weights import hashes as module
from sdedit_cli.weights.hashes import Hashes, file_hashes

CONTENT = bytes(range(256)) * 5000


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "f").write_bytes(CONTENT)
    return tmp_path / "f"


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "hashes.jsonl"


def test_the_hashes_are_those_of_web_uis(file: Path, cache: Path) -> None:
    found = file_hashes(file, cache)
    assert found.sha256 == hashlib.sha256(CONTENT).hexdigest()
    assert found.autov2 == found.sha256[:10]
    assert found.autov1 == hashlib.sha256(CONTENT[0x100000 : 0x100000 + 0x10000]).hexdigest()[:8]


def test_small_files_share_the_autov1_of_nothing(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "small").write_bytes(b"x")
    assert file_hashes(tmp_path / "small", cache).autov1 == "e3b0c442"


def test_a_second_look_reads_the_cache_and_a_changed_file_does_not(
    file: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[Path] = []
    compute = module._compute
    monkeypatch.setattr(module, "_compute", lambda path: (reads.append(path), compute(path))[1])
    first = file_hashes(file, cache)
    assert file_hashes(file, cache) == first
    assert len(reads) == 1
    file.write_bytes(CONTENT[::-1])
    os.utime(file, ns=(1, 1))
    assert file_hashes(file, cache) != first
    assert len(reads) == 2


@pytest.mark.parametrize(
    "damage", [b"\xff\xfe", b'{"path": ', b"[1]\n3\nnull\n", b"[" * 100_000, b'{"path": 1, "size": "x"}']
)
def test_a_damaged_cache_is_passed_over(damage: bytes, file: Path, cache: Path) -> None:
    expected = file_hashes(file, cache)
    good = cache.read_bytes()
    cache.write_bytes(damage)
    assert file_hashes(file, cache) == expected
    cache.write_bytes(good[: len(good) // 2] + b"\n" + damage)
    assert file_hashes(file, cache) == expected
    assert file_hashes(file, cache) == expected


def test_a_false_entry_needs_the_form_of_a_hash(file: Path, cache: Path) -> None:
    facts = file.stat()
    cache.parent.mkdir()
    entry = {"path": str(file), "size": facts.st_size, "mtime_ns": facts.st_mtime_ns, "sha256": "zz", "autov1": 5}
    cache.write_text(json.dumps(entry))
    assert file_hashes(file, cache).sha256 == hashlib.sha256(CONTENT).hexdigest()


def test_a_cache_that_cannot_be_written_does_no_harm(file: Path, tmp_path: Path) -> None:
    (tmp_path / "blocked").write_text("a file where a folder would have to be")
    assert isinstance(file_hashes(file, tmp_path / "blocked" / "cache"), Hashes)


def test_a_large_cache_is_shortened(file: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file_hashes(file, cache)
    monkeypatch.setattr(module, "_CACHE_LIMIT", 100)
    monkeypatch.setattr(module, "_CACHE_LINES", 4)
    for number in range(10):
        (file.parent / f"g{number}").write_bytes(b"x")
        file_hashes(file.parent / f"g{number}", cache)
    assert len([line for line in cache.read_bytes().splitlines() if line]) <= 4
    assert [path.name for path in cache.parent.iterdir()] == [cache.name]


def test_what_cannot_be_hashed_is_a_model_error(tmp_path: Path, cache: Path) -> None:
    with pytest.raises(ModelError, match="cannot be read"):
        file_hashes(tmp_path / "gone", cache)
    with pytest.raises(ModelError, match="folder"):
        file_hashes(tmp_path, cache)
