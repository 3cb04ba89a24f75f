"""One reader and one writer of sizes."""

from __future__ import annotations

import pytest

from sdedit_cli.disk.sizes import parse_size, size_text
from sdedit_cli.errors import UsageError


@pytest.mark.parametrize(
    ("text", "size"),
    [("5GB", 5 * 10**9), ("1.5 MiB", 3 << 19), ("7", 7), ("2k", 2000), ("3 b", 3), ("1TiB", 1 << 40), (40_000, 40_000)],
)
def test_sizes(text: int | str, size: int) -> None:
    assert parse_size(text, "--max-shard-size") == size


@pytest.mark.parametrize(
    "text", ["", "GB", "-1", "0", 0, -5, "5XB", "5 i B", "5iB", "1e9", "9" * 400, "9" * 400 + "GB", "٣GB"]
)
def test_no_sizes(text: int | str) -> None:
    with pytest.raises(UsageError, match=r"--max-shard-size is '.*', expected bytes or a size such as 5GB") as caught:
        parse_size(text, "--max-shard-size")
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("size", "text"), [(4_265_146_304, "4.27 GB"), (12_345_678, "12.3 MB"), (500, "0.5 kB"), (0, "0.0 kB")]
)
def test_sizes_for_people(size: int, text: str) -> None:
    assert size_text(size) == text
