"""Every promise of docs/security.md names a test that is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROWS = [
    row.strip("|").split("|")
    for row in (ROOT / "docs" / "security.md").read_text(encoding="utf-8").splitlines()
    if row.startswith("|")
][2:]


def test_there_are_promises() -> None:
    assert len(ROWS) > 5


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[1].strip()[:40])
def test_a_promise_names_its_test(row: list[str]) -> None:
    named = re.fullmatch(r"`(tests/[\w/]+\.py)(?:::(test_\w+))?`", row[2].strip())
    assert named, row
    text = (ROOT / named[1]).read_text(encoding="utf-8")
    assert f"def {named[2] or 'test_'}" in text
