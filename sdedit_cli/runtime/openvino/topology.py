"""A network as a graph of OpenVINO that has no weights: they are inputs of it, in the order of its parameters.

It is traced with a small picture and weights that take no memory, and holds for pictures of every size.

Shapes: B rows, C channels, K channels of a skip, H W picture.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...nn import FreeU, wrapped
from ...nn.base import Model
from .machine import core, library
from .plan import Plan

# The side of the picture that is traced: it can be halved as often as the networks of the families do.
_SIDE = 64
_LENGTH = 8


def topology(plan: Plan, inputs: Sequence[Tensor]) -> bytes:
    """The graph of a plan, as `graph_of` reads it; `inputs` have the shapes of a call."""
    network = plan.network()
    network.ops = replace(network.ops, attention=_attention)
    called = _Flat(network, plan, len(inputs))
    examples = [*_examples(plan, inputs), *(_weightless(p) for p in network.parameters())]
    with torch.no_grad(), warnings.catch_warnings(), wrapped(network, plan.wrap):
        warnings.simplefilter("ignore")  # that sizes are read, which the graph does, too
        trace = cast(Any, torch.jit).trace
        return _packed(library().convert_model(trace(called, examples, check_trace=False), example_input=examples))


def graph_of(data: bytes) -> Any:
    """The graph that was packed. Raises RuntimeError for what OpenVINO cannot read."""
    length = int.from_bytes(data[:_LENGTH], "little")
    numbers = torch.frombuffer(bytearray(data[_LENGTH + length :]), dtype=torch.uint8)
    return core().read_model(data[_LENGTH : _LENGTH + length], library().Tensor(numbers.numpy()))


def _packed(graph: Any) -> bytes:
    with TemporaryDirectory() as folder:  # it writes to files alone
        text, numbers = Path(folder, "graph.xml"), Path(folder, "graph.bin")
        library().serialize(graph, text, numbers)
        data = text.read_bytes()
        return len(data).to_bytes(_LENGTH, "little") + data + numbers.read_bytes()


class _Flat(nn.Module):
    """A network that takes its weights behind its inputs, all in a row."""

    def __init__(self, network: Model[Any], plan: Plan, count: int) -> None:
        super().__init__()
        self._network = [network]  # in a list it is no part of this one, which has no weights
        self._names = [name for name, _ in network.named_parameters()]
        self._plan, self._count = plan, count

    def forward(self, *tensors: Tensor) -> Tensor:
        (network,) = self._network
        for name, weight in zip(self._names, tensors[self._count :], strict=True):
            owner, _, leaf = name.rpartition(".")
            module = network.get_submodule(owner)
            module._parameters.pop(leaf, None)  # pyright: ignore[reportPrivateUsage]
            object.__setattr__(module, leaf, weight)
        arguments = self._plan.arguments(tensors[: self._count])
        if self._plan.freeu is not None:
            arguments = (*arguments[:-1], _Damping(self._plan.freeu))
        return getattr(network, self._plan.method)(*arguments)


def _examples(plan: Plan, inputs: Sequence[Tensor]) -> list[Tensor]:
    """Inputs of these ranks: a small picture, and of the others what takes no memory."""
    small = _SIDE // 8 if plan.method != "moments" else _SIDE
    x_BCHW = torch.zeros(*inputs[0].shape[:2], small, small, dtype=plan.dtype)
    # A mask of one position fits layers of any.
    return [x_BCHW, *(_weightless(t[:, :1] if t.dim() == 3 else t) for t in inputs[1:])]


def _weightless(like: Tensor) -> Tensor:
    return torch.zeros((1,) * like.dim(), dtype=like.dtype).expand(like.shape)


def _attention(q_BNTD: Tensor, k_BNSD: Tensor, v_BNSD: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q_BNTD, k_BNSD, v_BNSD)


class _Damping:
    """`FreeU` without a Fourier transform, which OpenVINO lacks: the lowest frequencies are a product of matrices."""

    def __init__(self, freeu: FreeU) -> None:
        self._freeu = freeu

    def merge(self, level: int, x_BCHW: Tensor, skip_BKHW: Tensor) -> tuple[Tensor, Tensor]:
        freeu = self._freeu
        if level > 1:
            return x_BCHW, skip_BKHW
        backbone, skip = ((freeu.b1, freeu.s1), (freeu.b2, freeu.s2))[level]
        half = x_BCHW.shape[1] // 2
        x_BCHW = torch.cat([x_BCHW[:, :half] * backbone, x_BCHW[:, half:]], dim=1)
        wide = skip_BKHW.float()
        return x_BCHW, (wide + (skip - 1) * _lowest(wide)).to(skip_BKHW.dtype)


def _lowest(x_BKHW: Tensor) -> Tensor:
    """The real part of the frequencies -1 and 0 along both axes: a sum over cos(a + b) = cos a cos b - sin a sin b."""
    (cos_HH, sin_HH), (cos_WW, sin_WW) = (_waves(x_BKHW.shape[dim]) for dim in (-2, -1))
    return cos_HH @ x_BKHW @ cos_WW - sin_HH @ x_BKHW @ sin_WW.transpose(0, 1)


def _waves(length: int) -> tuple[Tensor, Tensor]:
    """Sums over the frequencies of cos and sin of the angle between two places, over `length`, as matrices."""
    places = torch.arange(length, dtype=torch.float32)
    # A single place has the frequency 0 alone. Lengths are of the graph, so that it holds for all.
    several = places.sum().clamp(max=1.0)
    count = torch.ones_like(places).sum()
    angle = (places[:, None] - places[None, :]) * (2 * math.pi / count)
    return (1 + several * torch.cos(angle)) / count, -several * torch.sin(angle) / count
