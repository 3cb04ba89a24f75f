"""Layers whose weights lie as oneDNN's kernels read them, and pictures with their channels last.

A weight is there once: it is packed when its layer has computed so often that it pays, and whoever looks at the
parameter (a save, an adapter, another device) finds it as it was, bit for bit; the layer packs it again as it did at
first. One that somebody else holds, or sees through another tensor, is never packed. Results have the bits of torch's
own layers on pictures with their channels last, packed or not; a convolution of single places is a product of them,
as its layout for one size of picture is none for another, and to lay it out anew takes 50 times as long as to compute.

Shapes: B rows, C channels (K: those of the result), H W picture, E features.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...nn.base import Conv2d, Linear, Model
from .pages import forget

FEWEST_ROWS = 16
"""Below this many rows a product takes another kernel, which wants another layout: those stay plain."""
FEWEST_CHANNELS = 16
"""Convolutions of pictures and latents have fewer, and nearly no weights."""

_WEIGHT = "weight"
_LOCK = threading.RLock()
# What torch's own compiler packs with; it has no public names.
_PACKING: Any = torch.ops.mkldnn
_C: Any = torch._C  # pyright: ignore[reportPrivateUsage]


def put_into(network: Model[Any], patience: int = 0) -> None:
    """Has the layers of a network compute on packed weights, while they are in bfloat16 and want no gradients; the
    first `patience` calls of each on the plain ones, as to pack takes longer than it saves in one call."""
    if not is_there():
        return
    shared = _overlapping(network)
    for layer in network.modules():
        if isinstance(layer, Conv2d):
            stays = _stays(layer) or layer in shared
            layer.way = _laid_out if stays else partial(_product if _is_product(layer) else _convolution, patience)
        elif isinstance(layer, Linear) and layer not in shared:
            layer.way = partial(_linear, patience)


def take_out(network: nn.Module) -> None:
    """Has the layers compute as torch's own."""
    for layer in network.modules():
        if isinstance(layer, Conv2d | Linear):
            layer.way = None


def make_writable(layer: nn.Module) -> None:
    """Has a packed weight as a parameter that holds anything, for somebody who writes all of it: to unpack it first
    takes as long."""
    if isinstance(held := vars(layer)["_parameters"], Weights):
        held.regain(lambda packed: torch.empty(packed.shape, dtype=packed.dtype))


def is_there() -> bool:
    """Whether torch multiplies in bfloat16 by oneDNN here."""
    return torch.backends.mkldnn.is_available() and _PACKING._is_mkldnn_bf16_supported()


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


class Weights(dict[str, Any]):
    """The parameters of a layer, by name. While `packed` is there it is the weight, which nobody has asked for."""

    packed: Tensor | None = None
    shape = torch.Size()
    calls = 0

    def pack(self, make: Callable[[Tensor], Tensor], patience: int) -> Tensor | None:
        """The packed weight, made at the call after `patience` of them; None before, and where it has to stay plain."""
        if (packed := self.packed) is not None:
            return packed
        self.calls += 1
        if self.calls <= patience:
            return None
        with _LOCK:
            weight: Tensor | None = super().__getitem__(_WEIGHT)
            super().__setitem__(_WEIGHT, None)
            try:
                # Nobody can come by it now. Who has it already is counted: this name, and the count's argument.
                if weight is not None and sys.getrefcount(weight) <= 2 and _is_alone(weight):
                    self.packed, self.shape = make(weight.detach()), weight.shape
                    forget(weight)
            finally:
                if self.packed is None:
                    super().__setitem__(_WEIGHT, weight)
            return self.packed

    def regain(self, make: Callable[[Tensor], Tensor] = torch.Tensor.to_dense) -> None:
        """Has the weight, which `make` makes of the packed one, as a parameter again."""
        with _LOCK:
            if self.packed is not None:
                super().__setitem__(_WEIGHT, nn.Parameter(make(self.packed).view(self.shape), requires_grad=False))
                self.packed, self.calls = None, 0

    def __getitem__(self, name: str) -> Any:
        if name == _WEIGHT:
            self.regain()
        return super().__getitem__(name)

    def __setitem__(self, name: str, value: Any) -> None:
        if name == _WEIGHT:
            self.packed = None
        super().__setitem__(name, value)

    def __delitem__(self, name: str) -> None:
        self.regain()
        super().__delitem__(name)

    def __iter__(self) -> Iterator[str]:
        self.regain()
        return super().__iter__()

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        # Copies are plain, until their layer computes.
        return dict, (dict(self.items()),)

    def get(self, name: str, default: Any = None) -> Any:
        self.regain()
        return super().get(name, default)

    def pop(self, *arguments: Any) -> Any:
        self.regain()
        return super().pop(*arguments)

    def copy(self) -> dict[str, Any]:
        return dict(self.items())

    def keys(self) -> Any:
        self.regain()
        return super().keys()

    def values(self) -> Any:
        self.regain()
        return super().values()

    def items(self) -> Any:
        self.regain()
        return super().items()


def _is_alone(weight: Tensor) -> bool:
    """Whether a weight can be packed, and no other tensor sees its bytes."""
    storage = weight.untyped_storage()
    return (
        weight.dtype == torch.bfloat16
        and weight.device.type == "cpu"
        and weight.is_contiguous()
        and not weight.requires_grad
        and storage.nbytes() == weight.nbytes
        # That of the tensor, and that of the name above.
        and _C._storage_Use_Count(cast(Any, storage)._cdata) == 2
    )


def _packed(layer: nn.Module, make: Callable[[Tensor], Tensor], patience: int) -> Tensor | None:
    held: dict[str, Any] = vars(layer)["_parameters"]
    if not isinstance(held, Weights):
        held = vars(layer)["_parameters"] = Weights(held)
    return held.pack(make, patience)


def computes(x: Tensor) -> bool:
    """Whether what multiplies in bfloat16 here may take the place of torch's own layers."""
    return (
        x.dtype == torch.bfloat16
        and x.device.type == "cpu"
        and not torch.is_grad_enabled()
        and not torch.compiler.is_compiling()
        and not _C._is_tracing()
    )


def _linear(patience: int, layer: Linear, x_BE: Tensor) -> Tensor:
    if not computes(x_BE):
        return F.linear(x_BE, layer.weight, layer.bias)
    return _multiplied(patience, layer, x_BE, layer.bias)


def _multiplied(patience: int, layer: Linear | Conv2d, x_BE: Tensor, bias: Tensor | None) -> Tensor:
    x_BE = x_BE.contiguous()  # of others torch adds the bias after a rounding
    rows = x_BE.numel() // max(1, x_BE.shape[-1])
    if rows >= FEWEST_ROWS:
        weight = _packed(layer, lambda plain: _PACKING._reorder_linear_weight(plain.flatten(1), rows), patience)
        if weight is not None:
            return _PACKING._linear_pointwise(x_BE, weight, bias, "none", [], "")
    return F.linear(x_BE, layer.weight.flatten(1), bias)


def _product(patience: int, layer: Conv2d, x_BCHW: Tensor, bias: Tensor | None, padding: tuple[int, int]) -> Tensor:
    if not computes(x_BCHW):
        return _plain(layer, x_BCHW, bias, padding)
    x_BHWC = x_BCHW.permute(0, 2, 3, 1)
    return _handed_on(layer, _multiplied(patience, layer, x_BHWC, bias).permute(0, 3, 1, 2))


def _convolution(patience: int, layer: Conv2d, x_BCHW: Tensor, bias: Tensor | None, padding: tuple[int, int]) -> Tensor:
    if not computes(x_BCHW):
        return _plain(layer, x_BCHW, bias, padding)
    x_BCHW = x_BCHW.contiguous(memory_format=torch.channels_last)
    stride, dilation = cast("tuple[int, int]", layer.stride), cast("tuple[int, int]", layer.dilation)

    def made(plain: Tensor) -> Tensor:
        return _reorder_convolution(plain, padding, stride, dilation, 1, list(x_BCHW.shape))

    weight = _packed(layer, made, patience)
    if weight is None:
        return _handed_on(layer, _plain(layer, x_BCHW, bias, padding))
    y_BKHW = _PACKING._convolution_pointwise(x_BCHW, weight, bias, padding, stride, dilation, 1, "none", [], "")
    return _handed_on(layer, y_BKHW)


def _reorder_convolution(plain: Tensor, *how: Any) -> Tensor:
    """Newer releases of torch take a plain weight; others want a copy of their own kind first."""
    if hasattr(_PACKING, "_reorder_convolution_weight"):
        return _PACKING._reorder_convolution_weight(plain, *how)
    return _C._nn.mkldnn_reorder_conv2d_weight(plain.to_mkldnn(), *how)


def _laid_out(layer: Conv2d, x_BCHW: Tensor, bias: Tensor | None, padding: tuple[int, int]) -> Tensor:
    if not computes(x_BCHW):
        return _plain(layer, x_BCHW, bias, padding)
    return _handed_on(layer, _plain(layer, x_BCHW.contiguous(memory_format=torch.channels_last), bias, padding))


def _handed_on(layer: Conv2d, y_BKHW: Tensor) -> Tensor:
    """Pictures and latents leave a network as everybody lays them."""
    return y_BKHW.contiguous() if layer.out_channels < FEWEST_CHANNELS else y_BKHW


def _plain(layer: Conv2d, x_BCHW: Tensor, bias: Tensor | None, padding: tuple[int, int]) -> Tensor:
    return F.conv2d(x_BCHW, layer.weight, bias, layer.stride, padding, layer.dilation, layer.groups)
