"""Pictures that claim to hold an embedding, and hold what none is made of: refused in words, without the cost."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from helpers.bounded import in_memory
from helpers.cli import bomb
from helpers.embeddings import WIDTH, in_pixels, in_text
from helpers.taken_apart import pieces_of, png_chunk
from PIL import Image

from sdedit_cli.adapters.embedding import read_embedding
from sdedit_cli.errors import ModelError

VALUES = ([[1, 2], [3]], [], [[]], 1, None, {"a": 1}, "x", [None], [10**400], [[[1.0]]], [float("nan")] * WIDTH)


@pytest.mark.parametrize("value", VALUES, ids=str)
@pytest.mark.parametrize("keep", [in_text, in_pixels])
def test_what_is_no_tensor_is_refused(keep: Any, value: object, tmp_path: Path) -> None:
    keep(tmp_path / "w.png", json.dumps({"string_to_param": {"*": {"TORCHTENSOR": value}}}).encode())
    with pytest.raises(ModelError, match=r"w\.png"):
        read_embedding(tmp_path / "w.png", WIDTH)


@pytest.mark.parametrize("side", [10_000, 20_000])
def test_more_pixels_than_an_embedding_needs_are_not_decoded(side: int, tmp_path: Path) -> None:
    (tmp_path / "w.png").write_bytes(bomb(side))
    with pytest.raises(ModelError, match=r"pixels|exceeds limit"), in_memory(300_000_000):
        read_embedding(tmp_path / "w.png", WIDTH)


def test_no_more_is_unpacked_of_pixels_than_a_text_may_have(tmp_path: Path) -> None:
    """Strips as wide as these hold 37 million halves of bytes each, of which a text may take 16."""
    picture = Image.new("RGB", (5000, 5000), (1, 1, 1))
    picture.paste((0, 0, 0), (2500, 0, 2501, 5000))
    picture.save(tmp_path / "w.png")
    with pytest.raises(ModelError, match=r"w\.png"), in_memory(650_000_000):
        read_embedding(tmp_path / "w.png", WIDTH)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no such files")
def test_a_pipe_is_no_embedding_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "w.pt")
    with pytest.raises(ModelError, match="is a pipe or a device"):
        read_embedding(tmp_path / "w.pt", WIDTH)


def test_a_chunk_that_claims_gigabytes_gets_none(tmp_path: Path) -> None:
    in_text(tmp_path / "w.png", b"{}")
    data = (tmp_path / "w.png").read_bytes()
    last = png_chunk(*next(piece for piece in pieces_of(data) if piece[0] == b"IDAT"))
    (tmp_path / "w.png").write_bytes(data.replace(last, b"\x7f\xff\xff\xf0" + last[4:]))
    with pytest.raises(ModelError, match=r"w\.png"), in_memory(300_000_000):
        read_embedding(tmp_path / "w.png", WIDTH)
