"""Frozen dataclasses from the JSON of a config file: the one reader behind every config class.

Keys that a class does not know are ignored, as config files carry notes of many versions of many tools;
a known key with a value of another type is an error that names the file, the key, and what was expected.
"""

from __future__ import annotations

import dataclasses
import json
import os
import stat
import types
from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from ..errors import ModelError, SdeditError, quoted

if TYPE_CHECKING:
    from typing_extensions import Self

T = TypeVar("T")
LARGEST_TEXT = 64_000_000
# Lists, objects and what stands between commas; the headers, indexes and vocabularies of models have some 100,000.
MOST_PARTS = 2_000_000
_BLOCK = 1 << 16
_LARGEST_INT = 1 << 63


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file. Raises ModelError when the file is missing, not JSON, or not an object."""
    try:
        data: object = json.loads(in_measure(read_text(path)))
    except FileNotFoundError:
        raise ModelError(f"{path}: no such file; a model folder has a config there") from None
    except (OSError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise ModelError(f"{path}: cannot be read as JSON ({error})") from None
    if not isinstance(data, dict):
        raise ModelError(f"{path}: holds a JSON {type(data).__name__}, expected an object")
    return cast("dict[str, Any]", data)


def object_in(text: str) -> dict[str, Any] | None:
    """The JSON object that a text of strangers holds; None where it holds anything else."""
    try:
        value: object = json.loads(in_measure(text))
    except (ValueError, RecursionError):
        return None
    return cast("dict[str, Any]", value) if isinstance(value, dict) else None


def in_measure(text: str) -> str:
    """The text of JSON as it is. Raises ValueError where it has so many parts that it takes many times as much memory
    as its own bytes: an empty list has two of these, and sixty of memory."""
    if sum(map(text.count, "[{,")) > MOST_PARTS:
        raise ValueError(f"it has more than {MOST_PARTS:,} parts")
    return text


def as_object(value: object) -> dict[str, Any]:
    """A value of JSON where it is an object, an empty one where it is anything else."""
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


class NetworkConfig(ABC):
    """The base of the frozen dataclasses of networks' config.json files; missing keys have the fields' defaults."""

    class_name: ClassVar[str] = ""
    """The `_class_name` that a folder's config.json gives."""

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], source: str = "config.json") -> Self:
        """The config in the JSON object `data`. Raises ModelError that names `source`, the key and its value."""
        config = from_mapping(cls, data, source)
        config.check(source)
        return config

    def to_dict(self) -> dict[str, Any]:
        """What a diffusers-layout folder keeps in the component's config.json."""
        return {"_class_name": self.class_name, **dataclasses.asdict(cast(Any, self))}

    @abstractmethod
    def check(self, source: str = "config") -> None:
        """Raises ModelError, naming `source`, when this program cannot build the network described."""


def read_text(path: Path) -> str:
    """The UTF-8 text of a file of a model beside its weights.

    Raises as `bounded_text` does, ModelError where that says what is wrong.
    """
    return bounded_text(path, LARGEST_TEXT, ModelError, "a config or a vocabulary")


def bounded_text(path: Path, most: int, error: type[SdeditError], expected: str) -> str:
    """The UTF-8 text of a file of at most `most` bytes; '' of /dev/null, by which users name no file.

    Raises `error` for what is no file (another device might never end) or too large, OSError for what is not there or
    not readable, ValueError for what is no UTF-8.
    """
    if not stat.S_ISREG(path.stat().st_mode) and str(path) != os.devnull:
        raise error(f"{path}: is no file; expected {expected}")
    data = bytearray()
    with path.open("rb") as file:  # by blocks: to read so many at once would take the memory of as many
        while len(data) <= most and (block := file.read(_BLOCK)):
            data += block
    if len(data) > most:
        raise error(f"{path}: has more than {most / 1e6:g} MB; expected {expected}")
    return data.decode("utf-8-sig")  # editors on Windows begin a file with a mark


def from_mapping(cls: type[T], data: Mapping[str, Any], source: str) -> T:
    """An instance of the dataclass `cls` from `data`; `source` names the file in errors."""
    hints = _hints(cls)
    known = [f.name for f in dataclasses.fields(cast(Any, cls)) if f.init]
    values = {name: _fit(hints[name], data[name], source, name) for name in known if name in data}
    return cls(**values)


@cache
def _hints(cls: type) -> dict[str, Any]:
    return get_type_hints(cls)


def _fit(hint: Any, value: Any, source: str, key: str) -> Any:
    fitted = _try_fit(hint, _flag(value) if hint is bool else value)
    if fitted is _MISFIT:
        expected = getattr(hint, "__name__", None) if get_origin(hint) is None else str(hint)
        raise ModelError(f"{source}: '{key}' is {quoted(value)}, expected {expected or hint}")
    return fitted


def _flag(value: Any) -> Any:
    """The reference asks a flag for its truth alone, and its own scripts write null where they were given nothing."""
    return bool(value) if value in (None, 0, 1) else value


_MISFIT = object()


def _try_fit(hint: Any, value: Any) -> Any:
    if hint is Any:
        return value
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        fits = (_try_fit(choice, value) for choice in get_args(hint))
        return next((fit for fit in fits if fit is not _MISFIT), _MISFIT)
    if origin is tuple:
        return _fit_tuple(get_args(hint), value)
    if hint is type(None):
        return None if value is None else _MISFIT
    if isinstance(value, bool) and hint is not bool:
        return _MISFIT
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return _fit_number(hint, value)
    return value if isinstance(value, hint) else _MISFIT


def _fit_number(hint: Any, value: float) -> Any:
    """Numbers that the arithmetic behind them holds: JSON knows any number of digits, NaN and infinities."""
    if isinstance(value, int) and abs(value) >= _LARGEST_INT:
        return _MISFIT
    if hint is float:
        number = float(value)
        return _MISFIT if number != number or number == float("inf") else number
    return value if isinstance(value, hint) else _MISFIT


def _fit_tuple(args: tuple[Any, ...], value: Any) -> Any:
    if not isinstance(value, (list, tuple)):
        return _MISFIT
    items = list(cast("list[Any]", value))
    kinds = [args[0]] * len(items) if len(args) == 2 and args[1] is Ellipsis else list(args)
    if len(kinds) != len(items):
        return _MISFIT
    fitted = [_try_fit(kind, item) for kind, item in zip(kinds, items, strict=True)]
    return _MISFIT if any(fit is _MISFIT for fit in fitted) else tuple(fitted)
