"""The files that a command line names for all pictures of a batch: whether they are there."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

from ..errors import InputError, MaskError, ModelError, PictureError, UsageError, shortened
from ..options import Layer, field_named
from .models import PARTS, WEIGHTS

# What may be named otherwise than by a path, and is looked for elsewhere.
_BY_NAME = ("model", "lora", "embedding")
_ERRORS: Mapping[str, type[InputError] | type[UsageError]] = {
    "mask": MaskError,
    "ip_image": PictureError,
    "c2pa": UsageError,
    "c2pa_key": UsageError,
}


def check_there(layers: Sequence[Layer]) -> None:
    """Raises an error for a file that these layers name and that is not there, once for all pictures: no row can name
    another. What is wrong with a file that is there, its reader says."""
    for layer in layers:
        for name, value in layer.values.items():
            option = field_named(name, layer.source).option
            if not option.path or name in _BY_NAME or value in option.words:
                continue
            endings = ("", *WEIGHTS) if name in PARTS else ("",)
            for path in _paths(value):
                if not any(os.path.lexists(os.path.expanduser(path) + ending) for ending in endings):
                    error = _ERRORS.get(name, ModelError)
                    raise error(f"--{name.replace('_', '-')} {shortened(path)}: no such file or folder")


def _paths(value: Any) -> Iterator[str]:
    if isinstance(value, tuple):
        for item in cast("tuple[Any, ...]", value):
            yield from _paths(item)
    elif value:
        yield value if isinstance(value, str) else value.path
