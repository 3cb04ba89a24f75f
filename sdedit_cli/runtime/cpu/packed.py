"""Layers whose weights lie as oneDNN's kernels read them, and pictures with their channels last.

A weight is packed when its layer has computed so often that it pays; who looks at it finds it as it was (`weights`),
and the layer packs it again as it did at first. Results have the same bits packed or not. In bfloat16 they are those of
torch's own layers on pictures with their channels last; in float32 torch takes products and small convolutions from
elsewhere, and differs in the order of sums.

Two layers are something else. A convolution of single places is a product of them, as its layout for one size of
picture is none for another, and to lay it out anew takes 50 times as long as to compute. A gated layer is two products,
of which the first ends with GELU and the second with the product of both, before anything is rounded.

Shapes: B rows, C channels (K: those of the result), H W picture, E features.
"""

from __future__ import annotations

import platform
import sys
from functools import cache, partial
from itertools import pairwise
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...nn.attention import GEGLU
from ...nn.base import Conv2d, Linear, Model
from .weights import Packed, held_by

FEWEST_ROWS = 16
"""Below this many rows a product takes another kernel, which wants another layout: those stay plain."""
FEWEST_CHANNELS = 16
"""Convolutions of pictures and latents have fewer, and nearly no weights."""

_FOR_EVER = sys.maxsize
_MACHINES = ("x86_64", "amd64")
# What torch's own compiler packs with; it has no public names.
_PACKING: Any = torch.ops.mkldnn
_C: Any = torch._C  # pyright: ignore[reportPrivateUsage]


def put_into(network: Model[Any], patience: int = 0) -> None:
    """Has the layers of a network compute on packed weights, while they are in float32 or bfloat16 and want no
    gradients; the first `patience` calls of each on the plain ones, as to pack takes longer than it saves in one
    call."""
    if not is_there():
        return
    shared = _overlapping(network)
    stay = shared | {layer.proj for layer in network.modules() if isinstance(layer, GEGLU)}
    for layer in network.modules():
        if isinstance(layer, Conv2d):
            stays = _stays(layer) or layer in shared
            layer.way = _laid_out if stays else partial(_product if _is_product(layer) else _convolution, patience)
        elif isinstance(layer, GEGLU):
            layer.way = partial(_gated, _FOR_EVER if layer.proj in shared else patience)
        elif isinstance(layer, Linear) and layer not in stay:
            layer.way = partial(_linear, patience)


def take_out(network: nn.Module) -> None:
    """Has the layers compute as torch's own."""
    for layer in network.modules():
        if isinstance(layer, Conv2d | Linear | GEGLU):
            layer.way = None


@cache
def is_there() -> bool:
    """Whether torch has oneDNN for this kind of processor. Those of another kind have it by way of a library of their
    own, whose layouts nobody has tried."""
    return torch.backends.mkldnn.is_available() and platform.machine().lower() in _MACHINES


@cache
def multiplies_bfloat16() -> bool:
    """Whether it multiplies in bfloat16."""
    return is_there() and _PACKING._is_mkldnn_bf16_supported()


def _stays(layer: Conv2d) -> bool:
    return layer.groups != 1 or layer.in_channels < FEWEST_CHANNELS


def _is_product(layer: Conv2d) -> bool:
    """Whether each place of the result is a product of one place of the picture."""
    return (layer.kernel_size, layer.stride, layer.padding) == ((1, 1), (1, 1), (0, 0))


def _overlapping(network: nn.Module) -> set[nn.Module]:
    """The layers that share bytes of their weights with other parameters."""
    spans = sorted(
        (
            (p.data_ptr(), p.data_ptr() + p.nbytes, layer)
            for layer in network.modules()
            for p in layer.parameters(False)
        ),
        key=lambda span: span[:2],
    )
    return {layer for one, other in pairwise(spans) if other[0] < one[1] for layer in (one[2], other[2])}


def computes(x: Tensor) -> bool:
    """Whether oneDNN may take the place of torch's own layers."""
    return (
        (x.dtype == torch.float32 or (x.dtype == torch.bfloat16 and multiplies_bfloat16()))
        and x.device.type == "cpu"
        and _C._get_mkldnn_enabled()
        and not torch.is_grad_enabled()
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
        and not _C._is_tracing()
    )


def _fits(layer: Linear | Conv2d, x: Tensor) -> bool:
    """Whether a layer is for what is given to it; torch's own has words for what is not."""
    return held_by(layer).dtype == x.dtype and (x.dim() == 4 or not isinstance(layer, Conv2d))


def _linear(patience: int, layer: Linear, x_BE: Tensor) -> Tensor:
    if not computes(x_BE) or not _fits(layer, x_BE):
        return F.linear(x_BE, layer.weight, layer.bias)
    return _multiplied(patience, layer, x_BE, layer.bias)


def _multiplied(patience: int, layer: Linear | Conv2d, x_BE: Tensor, bias: Tensor | None) -> Tensor:
    x_BE = x_BE.contiguous()  # of others torch adds the bias after a rounding
    if _rows(x_BE) < FEWEST_ROWS:
        return F.linear(x_BE, layer.weight.flatten(1), bias)
    (weight,) = _product_weight(layer, x_BE, patience)
    return _PACKING._linear_pointwise(x_BE, weight, bias, "none", [], "")


def _rows(x_BE: Tensor) -> int:
    return x_BE.numel() // max(1, x_BE.shape[-1])


def _product_weight(layer: Linear | Conv2d, x_BE: Tensor, patience: int, pieces: int = 1) -> Packed:
    """The weight in so many pieces, packed if it can be: in float32 torch's own product is of another library, and
    would have other bits."""

    def cut(plain: Tensor) -> Packed:
        return plain.flatten(1).chunk(pieces)

    def made(plain: Tensor) -> Packed:
        return tuple(_PACKING._reorder_linear_weight(piece, _rows(x_BE)) for piece in cut(plain))

    packed = held_by(layer).pack(made, patience) if _rows(x_BE) >= FEWEST_ROWS else None
    return packed or cut(layer.weight)


def _gated(patience: int, layer: GEGLU, x_BE: Tensor) -> Tensor:
    if not computes(x_BE) or not _is_itself(layer.proj) or not _fits(layer.proj, x_BE):
        return layer.ops.geglu(layer.proj(x_BE))
    x_BE = x_BE.contiguous()
    value, gate = _product_weight(layer.proj, x_BE, patience, pieces=2)
    value_bias, gate_bias = layer.proj.bias.chunk(2)
    gate_BE = _PACKING._linear_pointwise(x_BE, gate, gate_bias, "gelu", [], "none")
    return _PACKING._linear_pointwise.binary(x_BE, gate_BE, value, value_bias, "mul")


def _is_itself(layer: nn.Module) -> bool:
    """Whether nothing stands in for a layer, or wants to know of its calls."""
    state = vars(layer)
    return type(layer) is Linear and not state["_forward_hooks"] and not state["_forward_pre_hooks"]


def _product(patience: int, layer: Conv2d, x_BCHW: Tensor, bias: Tensor | None, padding: tuple[int, int]) -> Tensor:
    if not computes(x_BCHW) or not _fits(layer, x_BCHW):
        return _plain(layer, x_BCHW, bias, padding)
    x_BHWC = x_BCHW.permute(0, 2, 3, 1)
    return _handed_on(layer, _multiplied(patience, layer, x_BHWC, bias).permute(0, 3, 1, 2))


def _convolution(patience: int, layer: Conv2d, x_BCHW: Tensor, bias: Tensor | None, padding: tuple[int, int]) -> Tensor:
    if not computes(x_BCHW) or not _fits(layer, x_BCHW):
        return _plain(layer, x_BCHW, bias, padding)
    x_BCHW = x_BCHW.contiguous(memory_format=torch.channels_last)
    stride, dilation = cast("tuple[int, int]", layer.stride), cast("tuple[int, int]", layer.dilation)

    def made(plain: Tensor) -> Packed:
        return (_reorder_convolution(plain, padding, stride, dilation, 1, list(x_BCHW.shape)),)

    (weight,) = held_by(layer).pack(made, patience) or (layer.weight,)
    y_BKHW = _PACKING._convolution_pointwise(x_BCHW, weight, bias, padding, stride, dilation, 1, "none", [], "")
    return _handed_on(layer, y_BKHW)


def _reorder_convolution(plain: Tensor, *how: Any) -> Tensor:
    """Newer releases of torch take a plain weight; others want a copy of their own kind first."""
    if hasattr(_PACKING, "_reorder_convolution_weight"):
        return _PACKING._reorder_convolution_weight(plain, *how)
    return _C._nn.mkldnn_reorder_conv2d_weight(plain.to_mkldnn(), *how)


def _laid_out(layer: Conv2d, x_BCHW: Tensor, bias: Tensor | None, padding: tuple[int, int]) -> Tensor:
    if not computes(x_BCHW) or not _fits(layer, x_BCHW):
        return _plain(layer, x_BCHW, bias, padding)
    return _handed_on(layer, _plain(layer, x_BCHW.contiguous(memory_format=torch.channels_last), bias, padding))


def _handed_on(layer: Conv2d, y_BKHW: Tensor) -> Tensor:
    """Pictures and latents leave a network as everybody lays them."""
    return y_BKHW.contiguous() if layer.out_channels < FEWEST_CHANNELS else y_BKHW


def _plain(layer: Conv2d, x_BCHW: Tensor, bias: Tensor | None, padding: tuple[int, int]) -> Tensor:
    return F.conv2d(x_BCHW, layer.weight, bias, layer.stride, padding, layer.dilation, layer.groups)
