"""Layers: values from one place each, from the user config to the command line, and the edit they make together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from ..errors import PresetError, SdeditError, UsageError, did_you_mean, shown
from .declared import by_name
from .edit import Edit, fields
from .option import Field


def field_named(word: str, label: str, of: type = Edit) -> Field:
    """The option of that TOML or attribute name; UsageError with the nearest one otherwise."""
    known = by_name(of)
    found = known.get(word.replace("-", "_"))
    if found is None:
        hint = did_you_mean(word, [f.key for f in known.values()])
        raise UsageError(f"{label}: no option is called '{shown(word)}'{hint}")
    return found


@dataclass(frozen=True, slots=True)
class Layer:
    """Values from one place; a later layer wins over an earlier one."""

    source: str
    values: Mapping[str, Any]


# Naming the steps in one way takes back the other ways that an earlier layer used; so does a sampler with a curve, and
# an encoded prompt with all that is said of the text encoder.
_DISPLACES: dict[str, tuple[str, ...]] = {
    "steps": ("timesteps", "sigmas"),
    "exact_steps": ("timesteps", "sigmas"),
    "timesteps": ("steps", "exact_steps", "sigmas"),
    "sigmas": ("steps", "exact_steps", "timesteps"),
    "sampler": ("schedule",),
    "prompt_embeds": ("prompt", "negative_prompt", "embedding", "clip_skip"),
    "prompt": ("prompt_embeds",),
    "negative_prompt": ("prompt_embeds",),
    "lossless": ("quality",),
    "quality": ("lossless",),
    "size": ("max_side", "max_megapixels"),
    "resize": ("max_side", "max_megapixels"),
    "max_side": ("size", "resize"),
    "max_megapixels": ("size", "resize"),
    "tile": ("cache_features",),
    "cache_features": ("tile",),
}
_RIVALS = (
    ("steps", "timesteps"),
    ("steps", "sigmas"),
    ("timesteps", "sigmas"),
    ("size", "max_side"),
    ("size", "max_megapixels"),
)


def layer_of(
    data: Mapping[str, object],
    source: str,
    error: type[SdeditError] = PresetError,
    of: type = Edit,
    read: Callable[[Field, Any, str], Any] = Field.fit,
) -> Layer:
    """The options of a table as a layer. Raises `error`, with `source` and a near word, on misfits.

    `read` makes a value of what is given for an option; its label names the place. As it is, of TOML or JSON.
    """
    values: dict[str, Any] = {}
    try:
        for word, value in data.items():
            field = field_named(word, source, of)
            if field.name in values:
                raise UsageError(f"{source}: gives {field.key} twice, with '-' and with '_'; leave one")
            values[field.name] = read(field, value, f"{source}: {field.key}")
        return checked(Layer(source, values))
    except UsageError as problem:
        raise error(str(problem)) from None


def checked(layer: Layer) -> Layer:
    """`layer`, unless it names the steps or the size in two ways at once (UsageError)."""
    for one, other in _RIVALS:
        if one in layer.values and other in layer.values:
            one, other = (name.replace("_", "-") for name in (one, other))
            raise UsageError(f"{layer.source}: {one} and {other} exclude each other; give one of them")
    return layer


def environment(variables: Mapping[str, str], of: type = Edit) -> Layer:
    """The layer of the SDEDIT_* variables that name options; empty ones count as not given."""
    named = {f.name: f.parse(variables[f.variable], f.variable) for f in fields(of) if variables.get(f.variable)}
    return checked(Layer("environment", named))


def merged(layers: Sequence[Layer], source: str) -> Layer:
    """One layer that stands for several, later ones winning."""
    values: dict[str, Any] = {}
    for layer in layers:
        for name, value in layer.values.items():
            # What is turned off asks for nothing in place of others.
            for displaced in _DISPLACES.get(name, ()) if value is not False else ():
                values.pop(displaced, None)
        values.update(layer.values)
    return Layer(source, values)


def edit_from(layers: Sequence[Layer]) -> Edit:
    """The edit that the layers describe, later ones winning. Raises UsageError."""
    return Edit(**merged(layers, "").values)


class Edits:
    """Makes edits of layers, each quickly of the last one: what they have in common is not checked again."""

    def __init__(self) -> None:
        self._last: tuple[Mapping[str, Any], Edit] | None = None

    def of(self, layers: Sequence[Layer]) -> Edit:
        """As `edit_from`."""
        values = merged(layers, "").values
        if self._last is None:
            edit = Edit(**values)
        else:
            before, edit = self._last
            changes = {name: value for name, value in values.items() if before.get(name) is not value}
            changes |= {name: defaults()[name] for name in before.keys() - values.keys()}
            edit = edit.varied(changes) if changes else edit
        self._last = values, edit
        return edit


@cache
def defaults() -> Mapping[str, Any]:
    """What every option of an edit is when nobody says anything."""
    return {field.name: field.default for field in fields()}
