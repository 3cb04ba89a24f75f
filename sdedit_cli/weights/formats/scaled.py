"""Weights in eight bits with a scale beside each: `x.weight` times `x.scale_weight`, as ComfyUI writes them.

Without their scales the numbers look like weights and make noise of every picture, so a scale is applied or refused
by its name, and is never left over.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ...errors import ModelError, shown
from .source import WeightSource

_SCALES = (".scale_weight", ".weight_scale")
_BLOCKS = ".weight_scale_inv"
# What says that there are scales, how they were made, or what inputs are to be divided by in eight-bit products.
_NOTES = (".scale_input", ".input_scale", ".comfy_quant", "scaled_fp8")
_EIGHT_BITS = (torch.float8_e4m3fn, torch.float8_e5m2)


class ScaledSource(WeightSource):
    """A source whose scaled weights are float32, each times its scale. `scales` gives the scale's name by weight."""

    def __init__(self, source: WeightSource, scales: Mapping[str, str]) -> None:
        self._source, self._scales = source, scales
        self.format, self.path, self.metadata = f"{source.format}, fp8 with scales", source.path, source.metadata
        self.unreadable, self.extras = source.unreadable, source.extras
        hidden = set(scales.values())
        self._names = [name for name in source.names() if name not in hidden and not name.endswith(_NOTES)]

    def names(self) -> list[str]:
        return self._names

    def shape(self, name: str) -> tuple[int, ...]:
        return self._source.shape(name)

    def dtype(self, name: str) -> torch.dtype:
        return torch.float32 if name in self._scales else self._source.dtype(name)

    def get(self, name: str) -> Tensor:
        weight = self._source.get(name)
        if name not in self._scales:
            return weight
        scale = self._source.get(self._scales[name]).float()
        rows = scale.reshape(-1, *(1,) * (weight.ndim - 1))  # one for all, or one a row
        made = weight.float() * rows
        self._source.release(name)
        return made

    def release(self, name: str) -> None:
        if name not in self._scales:
            self._source.release(name)

    def name_in_file(self, name: str) -> str:
        return self._source.name_in_file(name)


def with_scales(source: WeightSource) -> WeightSource:
    """The source, or where it holds scales, its weights times them. Raises ModelError for scales that do not fit."""
    names = set(source.names())
    scales = {f"{name.removesuffix(end)}.weight": name for name in names for end in _SCALES if name.endswith(end)}
    for weight, scale in sorted(scales.items()):
        _check(source, weight, scale, names)
    blocks = sorted(name for name in names if name.endswith(_BLOCKS))
    if blocks:
        raise _refused(source, blocks[0], "scales its weight block by block")
    return ScaledSource(source, scales) if scales else source


def _check(source: WeightSource, weight: str, scale: str, names: set[str]) -> None:
    if weight not in names:
        raise _refused(source, scale, "scales a weight that is not there")
    if source.dtype(weight) not in _EIGHT_BITS:
        kind = str(source.dtype(weight)).removeprefix("torch.")
        raise _refused(source, scale, f"scales a weight of {kind} numbers, and only fp8 is known to have scales")
    sides, numbers = source.shape(scale), source.shape(weight)
    rows = numbers[0] if numbers else 1
    if not source.dtype(scale).is_floating_point or [side for side in sides if side != 1] not in ([], [rows]):
        raise _refused(source, scale, f"of shape {list(sides)} is no scale of a weight {list(numbers)}")


def _refused(source: WeightSource, name: str, problem: str) -> ModelError:
    return ModelError(f"{source.path}: '{shown(name)}' {problem}; use the model's fp16 or bf16 file")
