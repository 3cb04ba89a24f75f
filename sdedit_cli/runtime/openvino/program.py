"""A network compiled for a device: for its weights as they are now, and for inputs of one shape each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ...errors import ModelError, is_out_of_memory, shortened
from .machine import Machine, core, library
from .plan import Plan
from .shelf import kept
from .topology import graph_of, topology

# How long to wait at a time, in milliseconds: between two waits Ctrl-C ends a call.
_PATIENCE = 100


class Program:
    """What a plan computes on a machine. Weights are read where they are; the device arranges copies as it needs."""

    def __init__(self, machine: Machine, plan: Plan, weights: Sequence[Tensor], inputs: Sequence[Tensor]) -> None:
        def fresh() -> bytes:
            return topology(plan, inputs)

        graph = kept(machine.shelf, plan.name, fresh, graph_of)
        # What the device leaves where it is has to stay there.
        self._weights = [weight.detach().contiguous() for weight in weights]
        _fill(graph, self._weights, len(inputs))
        graph.reshape({graph.input(k): list(tensor.shape) for k, tensor in enumerate(inputs)})
        self._request = _compiled(graph, machine, plan).create_infer_request()
        self._dtype = plan.dtype

    def __call__(self, *inputs: Tensor) -> Tensor:
        """The result, in memory of its own. Whatever is raised meanwhile, such as Ctrl-C, ends the call."""
        request = self._request
        held = [tensor.to(self._dtype).contiguous() for tensor in inputs]
        for index, tensor in enumerate(held):
            request.set_input_tensor(index, _numbers(tensor))
        request.start_async()
        try:
            while not request.wait_for(_PATIENCE):
                pass
        except BaseException:
            request.cancel()
            raise
        return _tensor(request.get_output_tensor(0), self._dtype)


def _compiled(graph: Any, machine: Machine, plan: Plan) -> Any:
    """Raises ModelError for what the device does not take."""
    try:
        return core().compile_model(graph, machine.device, machine.options(plan.dtype))
    except RuntimeError as problem:
        if is_out_of_memory(problem):
            raise
        (*_, last) = str(problem).strip().splitlines() or [""]
        raise ModelError(
            f"OpenVINO cannot compile this network for its {machine.device} ({shortened(last.strip())}); "
            "try --device cpu, another --dtype, or --backend torch"
        ) from problem


def _fill(graph: Any, weights: Sequence[Tensor], count: int) -> None:
    """Puts weights in the place of all inputs of a graph behind the first `count`."""
    nodes = graph.get_parameters()
    assert len(nodes) == count + len(weights), "a plan's name tells all that makes another graph"
    for node, weight in zip(nodes[count:], weights, strict=True):
        node.output(0).replace(library().op.Constant(_numbers(weight), shared_memory=True).output(0))
        graph.remove_parameter(node)


def _numbers(tensor: Tensor) -> Any:
    """OpenVINO's view of a contiguous tensor."""
    openvino, tensor = library(), tensor.detach()
    if tensor.dtype == torch.bfloat16:  # which numpy lacks
        return openvino.Tensor(tensor.view(torch.int16).numpy(), openvino.Shape(list(tensor.shape)), openvino.Type.bf16)
    return openvino.Tensor(tensor.numpy(), shared_memory=True)


def _tensor(numbers: Any, dtype: torch.dtype) -> Tensor:
    found = torch.from_numpy(numbers.data)
    return (found.view(torch.bfloat16) if dtype == torch.bfloat16 else found).clone()
