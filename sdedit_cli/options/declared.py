"""Options declared as the fields of a frozen dataclass, and what is derived from all of them together."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, TypeVar, cast, get_args, get_type_hints

from .option import Field, Option
from .values import KINDS, without_none

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
    return Field(name, option.kind or KINDS[get_args(plain)[0] if many else plain], many, default, option)


def fit_values(options: object) -> None:
    """Reads and checks every value of a frozen dataclass of options in place. Raises UsageError.

    A declared default is as it should be: batches make many edits, and most say little.
    """
    for field in declared(type(options)):
        value = getattr(options, field.name)
        if value is not field.default:
            object.__setattr__(options, field.name, field.fit(value, field.key))


def varied(options: T, changes: Mapping[str, Any], check: Callable[[T], object]) -> T:
    """A frozen dataclass of options with some values changed, those read and checked, and then all by `check`.

    Raises UsageError.
    """
    of = type(options)
    made = object.__new__(of)
    for member in _members(of):
        member.__set__(made, member.__get__(options))
    known = _by_name(of)
    for name, value in changes.items():
        if value is not getattr(options, name):
            field = known[name]
            object.__setattr__(made, name, value if value is field.default else field.fit(value, field.key))
    check(made)
    return made


@cache
def _by_name(of: type) -> dict[str, Field]:
    return {field.name: field for field in declared(of)}


@cache
def _members(of: type) -> tuple[Any, ...]:
    return tuple(getattr(of, field.name) for field in declared(of))


def kept(options: object, which: Callable[[Option], bool]) -> dict[str, Any]:
    """The values of the options that `which` takes, as JSON keeps them, by name; without those that say nothing."""
    values = [(field, getattr(options, field.name)) for field in _chosen(type(options), which)]
    return {field.name: field.dump(value) for field, value in values if value not in (None, ())}


@cache
def _chosen(of: type, which: Callable[[Option], bool]) -> tuple[Field, ...]:
    return tuple(field for field in declared(of) if which(field.option))


def with_hashes(values: Mapping[str, Any], of: type, hash_of: Callable[[str], str]) -> dict[str, Any]:
    """Kept values of options of a dataclass, with what `hash_of` says of the content in the place of each path."""
    paths = {field.name: field.option.words for field in declared(of) if field.option.path}
    return {
        name: _hashed(value, hash_of) if name in paths and value not in paths[name] else value
        for name, value in values.items()
    }


def _hashed(value: Any, hash_of: Callable[[str], str]) -> Any:
    if isinstance(value, tuple):
        return tuple(_hashed(item, hash_of) for item in cast("tuple[Any, ...]", value))
    return hash_of(value) if isinstance(value, str) else {**value, "path": hash_of(value["path"])}
