"""Tensors of ours under Flax's names and in Flax's layouts, for files that its pipelines load."""

from __future__ import annotations

from collections.abc import Callable

from ...names.table import Origin, flax
from ..formats.source import WeightSource
from .checkpoint import Component
from .renamed import Renamed


def component_in_flax(component: Component) -> Renamed:
    """The tensors of a component, each made of ours when it is asked for."""
    modules = {pair.ours[0]: pair.foreign for pair in flax(component.table)}
    return in_flax(component.tensors, modules.__getitem__)


def in_flax(source: WeightSource, module_name: Callable[[str], str]) -> Renamed:
    """The tensors of a source whose modules Flax calls otherwise."""
    origins: dict[str, Origin] = {}
    for name in source.names():
        module, dot, leaf = name.rpartition(".")
        written, operation = _leaf(module, leaf, len(source.shape(name)))
        origins[module_name(module) + dot + written] = Origin((name,), operation)
    return Renamed(source, origins)


def _leaf(module: str, leaf: str, axes: int) -> tuple[str, str]:
    """What Flax calls a parameter, and the operation that leads to its layout."""
    if leaf != "weight":
        return leaf, "same"
    if axes == 1:
        return "scale", "same"
    return ("embedding", "same") if axes == 2 and module.endswith("_embedding") else ("kernel", "flax")
