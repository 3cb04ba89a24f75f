"""The arguments of methods about LoRAs and their relatives, checked before any work."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from numbers import Real
from pathlib import Path, PurePath
from typing import Any, cast

from torch import Tensor, nn

from ..errors import UsageError, WrongTypeError, shown
from .keywords import one_file_options, resolved

SLOTS = ("unet", "text_encoder")
# Options of the reference's loader that ask for nothing here.
_IDLE = ("low_cpu_mem_usage", "unet_config", "metadata")
_NO_METADATA = "metadata is read from the file; give a state dict's alphas as tensors in it, and leave it out"


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
    if options.get("metadata") is not None:
        raise UsageError(_NO_METADATA)
    if not isinstance(source, (str, os.PathLike, Mapping)):
        raise WrongTypeError(f"the adapter is a {type(source).__name__}; expected a path, a Hub id or a state dict")
    return resolved(source, weight_name, where)


def asked_slots(components: object, **wanted: bool) -> list[str]:
    """The components that are meant, without those that are not `wanted`. Raises UsageError for what is no list of some
    that adapters change, and for none."""
    listed = list(cast("Iterable[object]", components)) if isinstance(components, (list, tuple, set)) else [None]
    if not listed or not all(slot in SLOTS for slot in listed):
        raise UsageError(f"components is {components!r}; expected a list of some of {', '.join(SLOTS)}")
    return [str(slot) for slot in listed if wanted.get(str(slot), True)]


def weights_of(given: Any, count: int) -> list[Any]:
    """A weight for each of `count` adapters, those that are None as 1: of a list or an array, or one for all."""
    listed: object = given.tolist() if hasattr(given, "tolist") else given
    each = list(cast("Sequence[Any]", listed)) if isinstance(listed, (list, tuple)) else [listed] * count
    if len(each) != count:
        raise UsageError(f"adapter_weights has {len(each)} entries for {count} adapters; give one for each")
    plain: list[Any] = [getattr(weight, "tolist", lambda weight=weight: weight)() for weight in each]
    return [1.0 if weight is None else weight for weight in plain]


def name_of(adapter: object) -> str | None:
    """The name of an adapter. Raises WrongTypeError for what is no text."""
    if adapter is None or isinstance(adapter, str):
        return adapter
    raise WrongTypeError(f"adapter_name is {adapter!r}; expected a text")


def names_of(adapters: object) -> list[str]:
    """The names of one adapter or of several. Raises WrongTypeError for what is no text, and no list of such."""
    listed: object = [adapters] if isinstance(adapters, str) else adapters
    if isinstance(listed, Iterable):
        names = list(cast("Iterable[object]", listed))
        if all(isinstance(name, str) for name in names):
            return cast("list[str]", names)
    raise WrongTypeError(f"adapter_names is {adapters!r}; expected the name of an adapter, or a list of names")


def tensors_in(layers: object) -> Mapping[str, Tensor]:
    """The tensors of layers by name. Raises WrongTypeError for what is none."""
    found: object = layers.state_dict() if isinstance(layers, nn.Module) else layers or {}
    if not isinstance(found, Mapping):
        raise WrongTypeError(f"the layers are a {type(found).__name__}; expected tensors by name, or a module")
    found = cast("Mapping[str, object]", found)
    for name, value in found.items():
        if not isinstance(value, Tensor):
            raise WrongTypeError(f"the layers have a {type(value).__name__} as '{shown(name)}'; expected a tensor")
    return cast("Mapping[str, Tensor]", found)


def file_name(name: object) -> str:
    """The name of a file within a folder. Raises UsageError for one that is elsewhere, and for a pickle's ending;
    WrongTypeError for what is no text."""
    if not isinstance(name, str):
        raise WrongTypeError(f"weight_name is {name!r}; expected a text")
    path = PurePath(name)
    if path.is_absolute() or ".." in path.parts or path.suffix in (".bin", ".pt", ".pth", ".ckpt"):
        raise UsageError(f"weight_name is '{shown(name)}'; expected a name of safetensors within the folder")
    return name


def header_text(header: Mapping[str, Any]) -> str:
    """What PEFT's configs say as JSON, their sets as lists. Raises WrongTypeError for what JSON cannot hold."""

    def listed(value: object) -> list[str]:
        if isinstance(value, (set, frozenset)):
            return sorted(map(str, cast("set[Any]", value)))
        raise TypeError(f"a {type(value).__name__} is no text and no number")

    try:
        return json.dumps(dict(header), sort_keys=True, default=listed)
    except TypeError as problem:
        raise WrongTypeError(f"the adapter's metadata cannot be written ({problem}); give texts and numbers") from None
