"""What a weights file or model folder is, as plain values for people and programs."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from math import prod
from pathlib import Path

from ..errors import ModelError, UnsafeFileError
from .checkpoint import Checkpoint, open_checkpoint
from .checkpoint.checkpoint import EMA_PREFIXES, Component, check_runnable, check_scheduler, check_together
from .checkpoint.layouts import KindName, looks_like
from .formats.open import open_weights
from .formats.precisions import dtype_word
from .formats.source import WeightSource
from .load.check import check_complete


@dataclass(frozen=True)
class Size:
    """A component's size, and the precisions that its tensors have, the most frequent first."""

    name: KindName
    tensors: int
    parameters: int
    bytes: int
    dtypes: tuple[str, ...]


@dataclass(frozen=True)
class Description:
    """What a file is. `family` and `prediction_type` are '' where it has none; `note` says why it cannot be run."""

    path: Path
    format: str
    kind: str
    family: str = ""
    prediction_type: str = ""
    said_by: str = ""
    components: tuple[Size, ...] = ()
    has_ema: bool = False
    extra_tensors: int = 0
    metadata: dict[str, str] = field(default_factory=dict[str, str])
    note: str = ""


def describe(path: Path) -> Description:
    """What the weights in `path` are. Raises ModelError when they cannot be read, and when they ask for code."""
    try:
        checkpoint = open_checkpoint(path)
    except UnsafeFileError:
        raise
    except ModelError as error:
        if path.is_dir():
            raise
        return _unknown(path, open_weights(path), str(error))
    predicts = "unet" in checkpoint.components
    return Description(
        path=checkpoint.path,
        format=checkpoint.format,
        kind=checkpoint.title(),
        family=checkpoint.family.name if checkpoint.tells_family else "",
        prediction_type=checkpoint.prediction.kind if predicts else "",
        said_by=checkpoint.prediction.said_by if predicts else "",
        components=tuple(map(_size, checkpoint.components.values())),
        has_ema=checkpoint.has_ema,
        extra_tensors=len([n for n in checkpoint.dropped if not n.startswith(EMA_PREFIXES[0])])
        if checkpoint.source
        else 0,
        metadata=dict(checkpoint.metadata),
        note=_problem(checkpoint),
    )


def _problem(checkpoint: Checkpoint) -> str:
    try:
        check_complete(checkpoint)
        check_runnable(checkpoint)
        check_together(checkpoint)
        check_scheduler(checkpoint)
    except ModelError as error:
        return str(error).removeprefix(f"{checkpoint.path}: ")
    return ""


def _unknown(path: Path, source: WeightSource, problem: str) -> Description:
    names = source.names()
    note = problem.removeprefix(f"{path}: ")
    kind = _kind_of_unknown(names)
    return Description(path, source.format, kind, extra_tensors=len(names), metadata=dict(source.metadata), note=note)


def _kind_of_unknown(names: list[str]) -> str:
    words = looks_like(names)
    return words.removeprefix("looks like ").split(",")[0].split(";")[0] if words.startswith("looks") else "not known"


def _size(component: Component) -> Size:
    source = component.tensors
    names = source.names()
    dtypes = Counter(source.dtype(n) for n in names)
    return Size(
        component.kind.name,
        len(names),
        sum(prod(source.shape(n)) for n in names),
        sum(prod(source.shape(n)) * source.dtype(n).itemsize for n in names),
        tuple(dtype_word(dtype) for dtype, _ in dtypes.most_common()),
    )
