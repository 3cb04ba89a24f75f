"""What a weights file or model folder is, as plain values for people and programs."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from math import prod
from pathlib import Path

from ..errors import ModelError, UnsafeFileError
from ..names import ldm
from .checkpoint.from_file import tells_family
from .checkpoint.from_folder import Model, check_complete, open_model
from .checkpoint.layouts import Component, looks_like
from .formats.flax import FlaxSource
from .formats.open import open_weights
from .formats.source import WeightSource
from .formats.torchfile.source import PickleSource
from .write.convert import DTYPE_WORDS, kind_of

_FORMATS = {PickleSource: "pickle (read without executing it)", FlaxSource: "flax"}


@dataclass(frozen=True)
class Size:
    """A component's size, and the precisions that its tensors have, the most frequent first."""

    name: Component
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
    family: str
    prediction_type: str
    said_by: str
    components: tuple[Size, ...]
    has_ema: bool
    extra_tensors: int
    metadata: dict[str, str]
    note: str = ""


def describe(path: Path) -> Description:
    """What the weights in `path` are. Raises ModelError when they cannot be read, and when they ask for code."""
    try:
        model = open_model(path)
    except UnsafeFileError:
        raise
    except ModelError as error:
        if path.is_dir():
            raise
        return _unknown(path, open_weights(path), str(error))
    return _of_model(model)


def _of_model(model: Model) -> Description:
    predicts = "unet" in model.pieces
    found = model.detected
    return Description(
        path=model.path,
        format=format_of(model.raw) if model.raw else "diffusers folder",
        kind=kind_of(model),
        family=model.family.name if tells_family(model.pieces) else "",
        prediction_type=model.training.prediction_type if predicts else "",
        said_by=model.training.said_by if predicts else "",
        components=tuple(_component(name, piece.tensors) for name, piece in model.pieces.items()),
        has_ema=bool(found and found.has_ema),
        extra_tensors=len([n for n in model.dropped if not n.startswith(ldm.EMA)]) if model.raw else 0,
        metadata=dict(model.metadata),
        note=_problem(model),
    )


def _problem(model: Model) -> str:
    try:
        check_complete(model)
    except ModelError as error:
        return str(error).removeprefix(f"{model.path}: ")
    return ""


def _unknown(path: Path, source: WeightSource, problem: str) -> Description:
    names = source.names()
    note = problem.removeprefix(f"{path}: ")
    return Description(
        path, format_of(source), _kind_of_unknown(names), "", "", "", (), False, len(names), dict(source.metadata), note
    )


def _kind_of_unknown(names: list[str]) -> str:
    words = looks_like(names)
    return words.removeprefix("looks like ").split(",")[0].split(";")[0] if words.startswith("looks") else "not known"


def format_of(source: WeightSource) -> str:
    """The kind of file that a source reads."""
    return next((word for kind, word in _FORMATS.items() if isinstance(source, kind)), "safetensors")


def _component(name: Component, source: WeightSource) -> Size:
    names = source.names()
    dtypes = Counter(source.dtype(n) for n in names)
    return Size(
        name,
        len(names),
        sum(prod(source.shape(n)) for n in names),
        sum(prod(source.shape(n)) * source.dtype(n).itemsize for n in names),
        tuple(DTYPE_WORDS.get(dtype, str(dtype).removeprefix("torch.")) for dtype, _ in dtypes.most_common()),
    )
