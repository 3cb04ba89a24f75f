"""Options declared as the fields of a frozen dataclass, and what is derived from all of them together."""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from itertools import repeat
from operator import attrgetter
from types import MemberDescriptorType
from typing import Any, TypeVar, cast, get_args, get_type_hints

from .option import Field, Option
from .values import KINDS, PATH, as_is, without_none

T = TypeVar("T")


def declare(default: Any, help: str, group: str, **facts: Any) -> Any:
    """The declaration of an option in a dataclass: its default, and the facts of `Option`."""
    return dataclasses.field(default=default, metadata={"option": Option(help, group, **facts)})


@cache
def declared(of: type) -> tuple[Field, ...]:
    """Every option that a dataclass declares, in the order of its declaration."""
    hints = get_type_hints(of)
    members = dataclasses.fields(cast("Any", of))
    return tuple(
        _field(member.name, hints[member.name], member.default, member.metadata["option"]) for member in members
    )


def _field(name: str, hint: Any, default: Any, option: Option) -> Field:
    plain = without_none(hint)
    many = getattr(plain, "__origin__", None) is tuple
    usual = PATH if option.path else KINDS[get_args(plain)[0] if many else plain]
    return Field(name, option.kind or usual, many, default, option)


def fit_values(options: object) -> None:
    """Reads and checks every value of a frozen dataclass of options in place. Raises UsageError.

    A declared default is as it should be: batches make many edits, and most say little.
    """
    for field in declared(type(options)):
        value = getattr(options, field.name)
        if value is not field.default:
            object.__setattr__(options, field.name, field.fit(value, field.key))


def varied(options: T, changes: Mapping[str, Any], check: Callable[[T], object] | None) -> T:
    """A frozen dataclass of options with some values changed, those read and checked, and then all by `check`, if any.

    Raises UsageError.
    """
    of = type(options)
    made = object.__new__(of)
    members, values_of = _members(of)
    # The loop of a batch's planning: in C, as each edit has some eighty values.
    deque(map(MemberDescriptorType.__set__, members, repeat(made), values_of(options)), maxlen=0)
    others = {name: value for name, value in changes.items() if value is not getattr(options, name)}
    for name, value in fitted(of, others).items():
        object.__setattr__(made, name, value)
    if check is not None:
        check(made)
    return made


def fitted(of: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """Values of options by name, each read and checked by itself. Raises UsageError."""
    known = by_name(of)
    return {
        name: value if value is known[name].default else known[name].fit(value, known[name].key)
        for name, value in values.items()
    }


@cache
def by_name(of: type) -> Mapping[str, Field]:
    """Every option that a dataclass declares, by its name."""
    return {field.name: field for field in declared(of)}


@cache
def _members(of: type) -> tuple[tuple[Any, ...], Callable[[object], tuple[Any, ...]]]:
    names = tuple(field.name for field in declared(of))
    return tuple(getattr(of, name) for name in names), _getter(names)


def _getter(names: Sequence[str]) -> Callable[[object], tuple[Any, ...]]:
    """What gets the values of these attributes; `attrgetter` gives that of a single one without a tuple."""
    return attrgetter(*names) if len(names) > 1 else lambda options: tuple(getattr(options, name) for name in names)


def kept(options: object, which: Callable[[Option], bool]) -> dict[str, Any]:
    """The values of the options that `which` takes, as JSON keeps them, by name; without those that say nothing."""
    chosen, values_of = _chosen(type(options), which)
    return {
        name: dump(value) if dump else value
        for (name, dump), value in zip(chosen, values_of(options), strict=True)
        if value is not None and (value or type(value) is not tuple)
    }


_Chosen = tuple[tuple[str, "Callable[[Any], Any] | None"], ...]


def without(values: dict[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """The dictionary, from which the values of these names are taken."""
    for name in names:
        values.pop(name, None)
    return values


@cache
def _chosen(of: type, which: Callable[[Option], bool]) -> tuple[_Chosen, Callable[[object], tuple[Any, ...]]]:
    """The names of the options that `which` takes, each with what JSON keeps of its values where that is another
    thing, and what gets their values."""
    chosen = [field for field in declared(of) if which(field.option)]
    named = tuple((field.name, None if field.kind.dump is as_is else field.dump) for field in chosen)
    return named, _getter([field.name for field in chosen])


def with_hashes(values: Mapping[str, Any], of: type, hash_of: Callable[[str], str]) -> dict[str, Any]:
    """Kept values of options of a dataclass, with what `hash_of` says of the content in the place of each path."""
    hashed = {name: values[name] for name, words in _paths(of) if name in values and values[name] not in words}
    return {**values, **{name: _hashed(value, hash_of) for name, value in hashed.items()}}


@cache
def _paths(of: type) -> tuple[tuple[str, tuple[str, ...]], ...]:
    return tuple((field.name, field.option.words) for field in declared(of) if field.option.path)


def _hashed(value: Any, hash_of: Callable[[str], str]) -> Any:
    if isinstance(value, tuple):
        return tuple(_hashed(item, hash_of) for item in cast("tuple[Any, ...]", value))
    return hash_of(value) if isinstance(value, str) else {**value, "path": hash_of(value["path"])}
