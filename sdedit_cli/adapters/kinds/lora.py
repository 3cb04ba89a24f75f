"""LoRA and what builds on it: LoCon with a middle factor, biases of PEFT, magnitudes of DoRA."""

from __future__ import annotations

import torch
from torch import Tensor

from .leaves import (
    Leaves,
    Misfit,
    Scaling,
    along,
    check_shape,
    flat_of,
    matrix,
    norm_over,
    same_rank,
    scale_of,
    shape_of,
    trimmed,
)


def lora(leaves: Leaves, weight: Tensor, scaling: Scaling) -> Tensor:
    """(up·down)·alpha/r; with a middle factor (LoCon's Tucker form) Σ mid[m,n,k,l]·up[o,m]·down[n,i]·alpha/r."""
    check_lora(leaves, weight)
    up, down = matrix(leaves, "up"), matrix(leaves, "down")
    # The scale goes into the small factor: one pass less over the large product.
    up = up * scale_of(leaves, down.shape[0], scaling)
    delta = torch.einsum("mn...,om,ni->oi...", leaves["mid"], up, down) if "mid" in leaves else up @ down
    return delta.reshape(weight.shape)


def thin_factors(leaves: Leaves, shape: torch.Size) -> tuple[Tensor, Tensor]:
    """up (out, r[, 1, 1]) and down (r, in[, kh, kw]) for a weight of that shape, a middle factor taken into down, which
    is float32 then: who writes it rounds it."""
    up, down = matrix(leaves, "up"), leaves["down"]
    if "mid" in leaves:
        down = torch.einsum("mn...,ni->mi...", leaves["mid"].float(), matrix(leaves, "down").float())
    return up.reshape(*up.shape, *[1] * (len(shape) - 2)), down.reshape(down.shape[0], *shape[1:])


def factors(leaves: Leaves, weight: Tensor, scaling: Scaling) -> tuple[Tensor, Tensor]:
    """up (out, r), with the scale in it, and down (r, in of the flat weight), float32. Raises Misfit."""
    check_lora(leaves, weight)
    up, down = matrix(leaves, "up").float(), matrix(leaves, "down").float()
    scale = scale_of(leaves, down.shape[0], scaling)
    return up if scale == 1 else up * scale, down


def product_bound(leaves: Leaves, scaling: Scaling) -> float:
    """What no number of (up·down)·alpha/r exceeds in magnitude: the product of the factors' norms."""
    up, down = (norm_over(leaves[name].float(), range(leaves[name].dim())) for name in ("up", "down"))
    return float(up) * float(down) * abs(float(scale_of(leaves, leaves["down"].shape[0], scaling)))


def check_lora(leaves: Leaves, weight: Tensor) -> None:
    """Raises Misfit for factors of several ranks, and for those whose product is not of the weight's shape."""
    flat_of(weight)
    up, down = matrix(leaves, "up"), matrix(leaves, "down")
    same_rank(down=down.shape[0])
    scale_of(leaves, down.shape[0], Scaling())
    if "mid" not in leaves:
        same_rank(up=up.shape[1], down=down.shape[0])
        check_shape(weight, (up.shape[0], down.shape[1]), "LoRA")
        return
    mid = leaves["mid"]
    if mid.dim() < 3:
        raise Misfit(f"mid has the shape {shape_of(mid)}, (rank, rank, kernel height, kernel width) is expected")
    same_rank(up=up.shape[1], mid=mid.shape[0])
    same_rank(mid=mid.shape[1], down=down.shape[0])
    check_shape(weight, (up.shape[0], down.shape[1], *mid.shape[2:]), "LoCon")


def lora_bias(leaves: Leaves, bias: Tensor, scaling: Scaling) -> Tensor:
    """The bias of the upper factor times the factors' scale (PEFT's `lora_bias`)."""
    check_lora_bias(leaves, bias)
    return leaves["up_bias"].reshape(bias.shape) * scale_of(leaves, leaves["down"].shape[0], scaling)


def check_lora_bias(leaves: Leaves, bias: Tensor) -> None:
    check_shape(bias, shape_of(leaves["up_bias"]), "the bias of up")


def dora(leaves: Leaves, weight: Tensor, scaling: Scaling) -> Tensor:
    """m·V/‖V‖ − V, where `weight` is V: the base with the factors' change. The norm is V's, over all axes but m's."""
    axis, m = magnitudes(leaves, weight)
    others = [at for at in range(weight.dim()) if at != axis]
    norm = norm_over(weight, others)
    # Rows of zeros have no direction: they stay zero.
    return weight * (torch.where(norm > torch.finfo(norm.dtype).tiny, m / norm, 1.0) - 1)


def magnitudes(leaves: Leaves, weight: Tensor) -> tuple[int, Tensor]:
    """The axis that the magnitudes are for, and themselves so that they multiply the weight.

    PEFT's are for the outputs, whatever their shape; of `dora_scale` only the place of the axes of length 1 tells:
    (out, 1[, 1, 1]) or, as older LyCORIS and OneTrainer save them, (1, in[, 1, 1]).
    """
    flat_of(weight)
    if "magnitude" in leaves:
        return 0, along(0, leaves["magnitude"], weight, "the magnitude vector")
    shape = trimmed(leaves["dora_scale"].shape)
    if shape == (weight.shape[0],):
        return 0, along(0, leaves["dora_scale"], weight, "dora_scale")
    if shape == trimmed((1, weight.shape[1])):
        return 1, along(1, leaves["dora_scale"], weight, "dora_scale")
    raise Misfit(
        f"dora_scale has the shape {shape_of(leaves['dora_scale'])}; ({weight.shape[0]}, 1) or (1, {weight.shape[1]}) "
        "is expected"
    )
