"""What each cell of a sweep asks for: the command line's values, with the cell's in their place."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ...errors import SdeditError, UsageError
from ...options import Edit, Layer
from ...presets import Preset, load_preset, user_config

if TYPE_CHECKING:
    from ...batch.request import Request
    from ...batch.sweep import Cell
    from ..layering import Layering


def requests_of(
    cells: Sequence[Cell], layers: Layering, drawn: int | None
) -> tuple[dict[int, Request], dict[int, SdeditError]]:
    """The request of each cell, or what speaks against it; a seed that nobody names is the same for all. Raises the
    first problem where no cell can be meant."""
    presets = _Presets()

    def seeded(edit: Edit) -> Edit:
        if edit.count > 1:
            raise UsageError(f"--count {edit.count}: a cell of a sweep is one picture; vary --sweep seed=1,2,3 instead")
        return edit if edit.seed is not None else edit.varied({"seed": drawn})

    requests: dict[int, Request] = {}
    problems: dict[int, SdeditError] = {}
    for number, cell in enumerate(cells):
        values = dict(cell.values)
        preset = values.pop("preset", None)
        between = [presets.layer(preset)] if preset is not None else []
        try:
            requests[number] = layers.request(between, [Layer("--sweep", values)], seeded)
        except SdeditError as problem:
            problems[number] = problem
    if not requests:
        raise problems[0]
    return requests, problems


class _Presets:
    """Presets by their names, each read once."""

    def __init__(self) -> None:
        self._folders = user_config(os.environ).preset_folders
        self._known: dict[str, Preset] = {}

    def layer(self, name: str) -> Layer:
        """What a preset sets. Raises PresetError."""
        if name not in self._known:
            self._known[name] = load_preset(name, self._folders)
        return self._known[name].layer
