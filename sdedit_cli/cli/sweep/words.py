"""What a sheet says of its pictures, and a page of each."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ...options import Layer, fields
from ...options.layers import defaults
from ..again import as_command

if TYPE_CHECKING:
    from ...batch.request import Request
    from ...batch.sweep import Cell
    from ..layering import Layering

# What the header of a sheet says in any case, where it is the same everywhere.
_ALWAYS = ("strength", "steps", "cfg_scale", "seed", "sampler")
_TEXTS = ("prompt", "negative_prompt")
_MOST_LINES = 5


def in_common(requests: Iterable[Request]) -> dict[str, Any]:
    """What all pictures record alike of their edits, and the name of their model where it is one."""
    saved = [{**request.edit.saved(), "model": request.model.name} for request in requests]
    return {key: value for key, value in saved[0].items() if all(one.get(key) == value for one in saved)}


def header(common: Mapping[str, Any]) -> list[str]:
    """What the header of a sheet says of all of its pictures."""
    usual = defaults()
    texts = [f"{key.replace('_', ' ')}: {common[key]}" for key in _TEXTS if common.get(key)]
    pairs = [
        f"{key.replace('_', '-')} {_shown(common[key])}"
        for key in ("model", *(field.name for field in fields()))
        if key in common and key not in _TEXTS and (key in ("model", *_ALWAYS) or common[key] != usual.get(key))
    ]
    return [*texts, *textwrap.wrap(", ".join(dict.fromkeys(pairs)), 60)][:_MOST_LINES]


def _shown(value: Any) -> str:
    return f"{value:g}" if type(value) is float else str(value)


def command_of(request: Request, cell: Cell, source: str, layers: Layering) -> str:
    """The command line that makes the picture of a cell by itself."""
    edit = request.edit
    own = layers.models.get(edit.model, (None, Layer("", {})))[1].values
    said = {*own, *_ALWAYS, *cell.values, *layers.said.values}
    usual = defaults()
    named = [f.name for f in fields() if f.name in said or getattr(edit, f.name) != usual[f.name]]
    values = {name: value for name in named if (value := getattr(edit, name)) is not None}
    return as_command(Layer(source, values), source)
