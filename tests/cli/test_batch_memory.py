"""A batch of thousands needs no more memory at its end than at its beginning."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import pytest
from helpers.cli import QUICK, photo

from sdedit_cli.batch.events import Events
from sdedit_cli.cli.main import run


def test_pictures_leave_nothing_for_the_collector(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What only the collector frees stays for hundreds of pictures, as it comes by the rarer the more is held."""
    left: list[int] = []
    emit = Events.emit

    def watched(events: Events, event: str, **facts: Any) -> None:
        emit(events, event, **facts)
        if event == "saved":
            left.append(gc.collect())

    monkeypatch.setattr(Events, "emit", watched)
    (folder / "in").mkdir()
    for number in range(8):
        photo(folder / "in" / f"{number}.png")
    gc.disable()
    try:
        assert run(["batch", "in", "out", "-p", "a face", *QUICK]) == 0
    finally:
        gc.enable()
    assert len(left) == 8
    assert left[3:] == [0] * 5, "the first ones bring what a model makes once"
