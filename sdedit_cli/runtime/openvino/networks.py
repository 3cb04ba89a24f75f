"""Networks whose layers stand by while OpenVINO computes: programs are compiled when they are first called for.

Shapes: B rows, C channels, H W picture or latents, E time embedding.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from ...nn import AutoencoderKL, Context, FreeU, UNet2DCondition
from ...nn.base import Model
from .machine import Machine
from .plan import Plan, flat, padding_of
from .program import Program

# Programs of a method that are held at once: each has a copy of the weights. Edits of one batch may differ in the
# length of their prompts; tiles at the borders of an autoencoder's picture are smaller.
_MOST = 3


def attach(networks: Iterable[nn.Module], machine: Machine) -> None:
    """Has OpenVINO compute the UNets and autoencoders among these networks, whose weights may change between calls."""
    for network in networks:
        if isinstance(network, UNet2DCondition):
            network.way = _UNet(network, machine)
        elif isinstance(network, AutoencoderKL):
            for method in ("moments", "pixels"):
                network.ways[method] = _OfAutoencoder(network, machine, method)


class _Programs:
    """The programs of a network in use, for its weights as they are."""

    def __init__(self, network: Model[Any], machine: Machine) -> None:
        self._network = network
        self._machine = machine
        self._programs: dict[object, Program] = {}
        self._made_of: object = None

    def run(self, plan: Plan, inputs: Sequence[Tensor]) -> Tensor:
        plan = replace(plan, padding=padding_of(self._network))
        weights = list(self._network.parameters())
        # Adapters write into weights, which counts a version; other precisions and devices have other memory.
        made_of = [(weight.data_ptr(), weight._version) for weight in weights]
        if made_of != self._made_of:
            self._programs.clear()
            self._made_of = made_of
        key = (plan, tuple(tensor.shape for tensor in inputs))
        program = self._programs.pop(key, None)
        if program is None:
            while len(self._programs) >= _MOST:
                del self._programs[next(iter(self._programs))]
            program = Program(self._machine, plan, weights, inputs)
        self._programs[key] = program
        return program(*inputs)


class _UNet:
    def __init__(self, network: UNet2DCondition, machine: Machine) -> None:
        self._programs = _Programs(network, machine)

    def __call__(
        self,
        network: UNet2DCondition,
        x_BCHW: Tensor,
        emb_BE: Tensor,
        context: Context,
        freeu: FreeU | None = None,
        deep: None = None,
    ) -> Tensor:
        assert deep is None, "features are not kept here"
        images = tuple((image.scales, bool(image.masks)) for image in context.images)
        plan = Plan(
            network.config, "forward", x_BCHW.dtype, network.conv_in.wrap, len(context.kv), freeu=freeu, images=images
        )
        return self._programs.run(plan, flat(x_BCHW, emb_BE, context))


class _OfAutoencoder:
    def __init__(self, network: AutoencoderKL, machine: Machine, method: str) -> None:
        self._network, self._method = network, method
        self._programs = _Programs(network, machine)

    def __call__(self, x_BCHW: Tensor) -> Tensor:
        network = self._network
        plan = Plan(network.config, self._method, x_BCHW.dtype, network.encoder.conv_in.wrap)
        return self._programs.run(plan, [x_BCHW])
