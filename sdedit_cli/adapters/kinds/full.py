"""The kinds that hold a change as it is: of a weight, a bias or a norm, and the sparse rest of an extraction."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .leaves import Leaves, Misfit, Scaling, check_shape, flat_of, shape_of, shaped_as


def whole(name: str) -> Callable[[Leaves, Tensor, Scaling], Tensor]:
    """The function of a kind whose leaf of that name is the change itself, never scaled by alpha."""

    def change(leaves: Leaves, parameter: Tensor, scaling: Scaling) -> Tensor:
        # A sum of several kinds is added up in place: never in the file's own tensor.
        return shaped_as(parameter, leaves[name], name).clone()

    return change


def check_whole(name: str) -> Callable[[Leaves, Tensor], None]:
    return lambda leaves, parameter: check_shape(parameter, shape_of(leaves[name]), name)


def inside(indices: Tensor, size: Sequence[int]) -> bool:
    return int(indices.min()) >= 0 and all(
        int(largest) < end for largest, end in zip(indices.amax(1), size, strict=True)
    )


def sparse(leaves: Leaves, weight: Tensor, scaling: Scaling) -> Tensor:
    """The sparse matrix of W's flat shape that is left of a difference when its factors are taken away."""
    rows, columns = flat_of(weight)
    indices, values = leaves["bias_indices"].long(), leaves["bias_values"]
    size = tuple(int(number) for number in leaves["bias_size"].flatten())
    if size != (rows, columns):
        raise Misfit(f"the sparse rest is of the size {size}, the weight of {(rows, columns)}")
    if indices.shape != (2, values.numel()):
        raise Misfit(f"bias_indices has the shape {shape_of(indices)}, bias_values {shape_of(values)}")
    if values.numel() and not inside(indices, size):
        raise Misfit(f"bias_indices points outside of its {rows} rows and {columns} columns")
    change = torch.zeros(rows, columns, dtype=values.dtype, device=weight.device)
    return change.index_put_((indices[0], indices[1]), values.flatten(), accumulate=True).reshape(weight.shape)
