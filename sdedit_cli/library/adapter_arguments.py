"""The arguments of methods about LoRAs and their relatives, checked before any work."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from numbers import Real
from pathlib import Path
from typing import Any

from torch import Tensor

from ..errors import UsageError, WrongTypeError
from .keywords import one_file_options, resolved

SLOTS = ("unet", "text_encoder")
# Options of the reference's loader that ask for nothing here.
_IDLE = ("low_cpu_mem_usage",)


def checked_scale(name: str, scale: object) -> float:
    """The number that strengths are multiplied by: 1 where none is given. Raises WrongTypeError, UsageError."""
    if scale is None:
        return 1.0
    if isinstance(scale, bool) or not isinstance(scale, Real):
        raise WrongTypeError(f"{name} is {scale!r}; expected a number, the share of all strengths")
    if not math.isfinite(scale):
        raise UsageError(f"{name} is {scale!r}; expected a finite number, the share of all strengths")
    return float(scale)


def located(source: object, weight_name: str | None, options: Mapping[str, Any]) -> Path | Mapping[str, Tensor]:
    """The file or folder of an adapter, or its state dict. Raises ModelError, UsageError, WrongTypeError."""
    where = one_file_options(options, *_IDLE)
    if not isinstance(source, (str, os.PathLike, Mapping)):
        raise WrongTypeError(f"the adapter is a {type(source).__name__}; expected a path, a Hub id or a state dict")
    return resolved(source, weight_name, where)


def check_slots(components: Sequence[str]) -> None:
    """Raises UsageError for what is no list of components that adapters change."""
    unknown = [name for name in components if name not in SLOTS]
    if unknown or isinstance(components, str):
        raise UsageError(f"components is {components!r}; expected a list of some of {', '.join(SLOTS)}")
