"""Layers whose weights lie as oneDNN's kernels read them, and pictures with their channels last.

A weight is packed when its layer has computed so often that it pays; who looks at it finds it as it was (`weights`),
and the layer packs it again as it did at first. Results have the same bits packed or not. In bfloat16, where a CPU
multiplies in it, they are those of torch's own layers on pictures with their channels last; in float32 torch takes
products and small convolutions from elsewhere, and differs in the order of sums.

Two layers are something else. A convolution of single places is a product of them, as its layout for one size of
picture is none for another, and to lay it out anew takes 50 times as long as to compute. A gated layer is two products,
of which the first ends with GELU and the second with the product of both, before anything is rounded.

Shapes: B rows, C channels (K: those of the result), H W picture, E features.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from functools import partial
from itertools import pairwise, repeat
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...nn.attention import GEGLU
from ...nn.base import Conv2d, Linear, Model
from .narrow import Narrow, multiplied, narrowed, pieces
from .weights import Packed, held_by
from .wide import is_there, multiplies, wide, widens

FEWEST_ROWS = 16
"""Below this many rows a product takes another kernel, which wants another layout: those stay plain."""
FEWEST_CHANNELS = 16
"""Convolutions of pictures and latents have fewer, and nearly no weights."""

NEVER = sys.maxsize
"""Calls before a weight is packed, where it is not to be."""
_PACKED = (torch.float32, torch.bfloat16)
# What torch's own compiler packs with; it has no public names.
_PACKING: Any = torch.ops.mkldnn
_C: Any = torch._C  # pyright: ignore[reportPrivateUsage]


def put_into(network: Model[Any], patience: int = 0) -> None:
    """Has the layers of a network compute on packed weights, while they are on the CPU and want no gradients; the
    first `patience` calls of each on the plain ones, as to pack takes longer than it saves in one call."""
    if not is_there():
        return
    shared = _overlapping(network)
    stay = shared | {layer.proj for layer in network.modules() if isinstance(layer, GEGLU)}
    for layer in network.modules():
        if isinstance(layer, Conv2d):
            stays = _stays(layer) or layer in shared
            layer.way = _laid_out if stays else partial(_product if _is_product(layer) else _convolution, patience)
        elif isinstance(layer, GEGLU):
            layer.way = partial(_gated, NEVER if layer.proj in shared else patience)
        elif isinstance(layer, Linear) and layer not in stay:
            layer.way = partial(_linear, patience)


def take_out(network: nn.Module) -> None:
    """Has the layers compute as torch's own."""
    for layer in network.modules():
        if isinstance(layer, Conv2d | Linear | GEGLU):
            layer.way = None


def _stays(layer: Conv2d) -> bool:
    return layer.groups != 1 or layer.in_channels < FEWEST_CHANNELS or isinstance(layer.padding, str)


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
        not torch.compiler.is_compiling()
        and not _C._is_tracing()
        and x.device.type == "cpu"
        and (widens(x.dtype) or (x.dtype in _PACKED and multiplies(x.dtype)))
        and _C._get_mkldnn_enabled()
        and not torch.is_grad_enabled()
        and not torch.is_autocast_enabled("cpu")
    )


def _fits(layer: Linear | Conv2d, x: Tensor) -> bool:
    """Whether a layer is for what is given to it; torch's own has words for what is not."""
    return held_by(layer).dtype == x.dtype and (x.dim() == 4 or not isinstance(layer, Conv2d))


def _linear(patience: int, layer: Linear, x_BE: Tensor) -> Tensor:
    if not computes(x_BE) or not _fits(layer, x_BE):
        return F.linear(x_BE, layer.weight, layer.bias)
    return _multiplied(patience, layer, x_BE, layer.bias)


def _multiplied(patience: int, layer: Linear | Conv2d, x_BE: Tensor, bias: Tensor | None) -> Tensor:
    dtype, x_BE = x_BE.dtype, wide(x_BE.contiguous())  # of others torch adds the bias after a rounding
    if _rows(x_BE) < FEWEST_ROWS:
        return F.linear(x_BE, wide(layer.weight.flatten(1)), _wide(bias)).to(dtype)

    def product(kept: Tensor | Narrow, bias: Tensor | None) -> Tensor:
        return multiplied(kept, lambda weight: _PACKING._linear_pointwise(x_BE, weight, bias, "none", [], ""))

    kept = _product_weight(layer, x_BE, patience)
    return _joined(map(product, kept, _biases(bias, kept)), dtype)


def _rows(x_BE: Tensor) -> int:
    return x_BE.numel() // max(1, x_BE.shape[-1])


def _product_weight(layer: Linear | Conv2d, x_BE: Tensor, patience: int, parts: int = 1) -> Packed:
    """The weight in so many parts, packed if it can be: in float32 torch's own product is of another library, and
    would have other bits."""

    def cut(plain: Tensor) -> tuple[Tensor, ...]:
        return tuple(piece for part in plain.flatten(1).chunk(parts) for piece in pieces(part))

    def made(plain: Tensor) -> Packed:
        packed = (_PACKING._reorder_linear_weight(wide(piece), _rows(x_BE)) for piece in cut(plain))
        return tuple(narrowed(piece, plain.dtype) for piece in packed)

    packed = held_by(layer).pack(made, patience) if _rows(x_BE) >= FEWEST_ROWS else None
    return packed or cut(layer.weight)


def _biases(bias: Tensor | None, kept: Packed) -> Iterable[Any]:
    """The bias of each piece of a weight."""
    return repeat(None) if bias is None else cast(Any, wide(bias).split([piece.shape[0] for piece in kept]))


def _joined(results: Iterable[Tensor], dtype: torch.dtype) -> Tensor:
    """The features that each piece of a weight has made of some rows, side by side."""
    first, *others = [result_BD.to(dtype) for result_BD in results]
    return torch.cat([first, *others], -1) if others else first


def _gated(patience: int, layer: GEGLU, x_BE: Tensor) -> Tensor:
    if not computes(x_BE) or not _is_itself(layer.proj) or not _fits(layer.proj, x_BE):
        return layer.ops.geglu(layer.proj(x_BE))
    dtype, x_BE = x_BE.dtype, wide(x_BE.contiguous())

    def gated(value: Tensor | Narrow, gate: Tensor | Narrow, value_bias: Tensor, gate_bias: Tensor) -> Tensor:
        one, other = _PACKING._linear_pointwise, _PACKING._linear_pointwise.binary
        gate_BE = multiplied(gate, lambda weight: one(x_BE, weight, gate_bias, "gelu", [], "none"))
        return multiplied(value, lambda weight: other(x_BE, gate_BE, weight, value_bias, "mul"))

    kept = _product_weight(layer.proj, x_BE, patience, parts=2)
    values, gates = kept[: len(kept) // 2], kept[len(kept) // 2 :]
    biases = (_biases(bias, values) for bias in layer.proj.bias.chunk(2))
    return _joined(map(gated, values, gates, *biases), dtype)


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
    dtype, x_BCHW = x_BCHW.dtype, wide(x_BCHW.contiguous(memory_format=torch.channels_last))
    stride, dilation = cast("tuple[int, int]", layer.stride), cast("tuple[int, int]", layer.dilation)

    def made(plain: Tensor) -> Packed:
        how = (padding, stride, dilation, 1, list(x_BCHW.shape))
        return tuple(narrowed(_reorder_convolution(wide(piece), *how), plain.dtype) for piece in pieces(plain))

    def convolved(kept: Tensor | Narrow, bias: Tensor | None) -> Tensor:
        how: Any = (bias, padding, stride, dilation, 1, "none", [], "")
        y_BKHW = multiplied(kept, lambda weight: _PACKING._convolution_pointwise(x_BCHW, weight, *how))
        return y_BKHW.permute(0, 2, 3, 1)

    kept = held_by(layer).pack(made, patience) or pieces(layer.weight)
    y_BHWK = _joined(map(convolved, kept, _biases(bias, kept)), dtype)
    return _handed_on(layer, y_BHWK.permute(0, 3, 1, 2))


def _reorder_convolution(plain: Tensor, *how: Any) -> Tensor:
    """Newer releases of torch take a plain weight; others want a copy of their own kind first."""
    if hasattr(_PACKING, "_reorder_convolution_weight"):
        return _PACKING._reorder_convolution_weight(plain, *how)
    return _C._nn.mkldnn_reorder_conv2d_weight(plain.to_mkldnn(), *how)


def _laid_out(layer: Conv2d, x_BCHW: Tensor, bias: Tensor | None, padding: tuple[int, int]) -> Tensor:
    if not computes(x_BCHW) or not _fits(layer, x_BCHW):
        return _plain(layer, x_BCHW, bias, padding)
    dtype, x_BCHW = x_BCHW.dtype, wide(x_BCHW.contiguous(memory_format=torch.channels_last))
    how = (layer.stride, padding, layer.dilation, layer.groups)
    return _handed_on(layer, F.conv2d(x_BCHW, wide(layer.weight), _wide(bias), *how).to(dtype))


def _wide(bias: Tensor | None) -> Tensor | None:
    return None if bias is None else wide(bias)


def _handed_on(layer: Conv2d, y_BKHW: Tensor) -> Tensor:
    """Pictures and latents leave a network as everybody lays them."""
    return y_BKHW.contiguous() if layer.out_channels < FEWEST_CHANNELS else y_BKHW


def _plain(layer: Conv2d, x_BCHW: Tensor, bias: Tensor | None, padding: tuple[int, int]) -> Tensor:
    return F.conv2d(x_BCHW, layer.weight, bias, layer.stride, padding, layer.dilation, layer.groups)
