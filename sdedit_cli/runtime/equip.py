"""What a device makes of networks that it is given: where they lie, and how they compute."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from ..nn import CLIPTextModel, TinyAutoencoder, UNet2DCondition
from ..nn.base import Model
from ..nn.fuse import fuse_qkv, unfuse_qkv
from ..nn.ops import Attention, attention
from . import cpu, kernels
from .attention_choice import CHOSEN
from .graphs import Graphs

_log = logging.getLogger("sdedit")

SMALL = 2**26
"""A UNet of fewer weights takes longer to find oneDNN's kernels than torch's own take to compute."""


def place(networks: Iterable[nn.Module], device: torch.device) -> None:
    """Has networks on the device; what lies in main memory goes to a GPU by way of pinned buffers."""
    networks = list(networks)
    if device.type == "cuda":
        from .upload import Staging, upload

        with torch.cuda.device(device):
            staging = Staging(torch.device("cuda", torch.cuda.current_device()))
            for network in networks:
                upload(network, staging)
            staging.finish()
    for network in networks:
        network.to(device)


def equip(network: Model[Any], device: torch.device, *, graphs: bool = True) -> None:
    """Has a network compute as is best on the device: on CUDA with kernels, the fastest attention, joint projections
    and graphs, on a CPU with packed weights; elsewhere plainly.

    An attention that somebody chose stays. Without `graphs` (networks that come and go) steps are not captured.
    """
    on_cuda, on_cpu = device.type == "cuda", device.type == "cpu"
    if not on_cpu:
        cpu.take_out(network)
    _set_kernels(network, on_cuda and kernels.are_there() and _are_right(device, network.dtype))
    if on_cpu:
        cpu.put_into(network, _patience(network))
    if network.ops.attention in (attention, CHOSEN, cpu.attention):
        network.ops.attention = _attention(network, device)
    if isinstance(network, UNet2DCondition):
        _set_way(network, on_cuda and graphs)


def widen(network: CLIPTextModel | TinyAutoencoder, device: torch.device) -> None:
    """Has the layers of a network that computes once or twice an edit make their products in float32, where the device
    is a CPU that does not multiply in its precision."""
    if device.type == "cpu" and cpu.widens(network.dtype):
        cpu.put_into(network, cpu.NEVER)
    else:
        cpu.take_out(network)


def _patience(network: Model[Any]) -> int | None:
    """How many calls it takes until packed weights pay: a UNet has many in an edit, an autoencoder one each way. None
    where they never do."""
    if not isinstance(network, UNet2DCondition):
        return 1
    is_small = sum(weight.numel() for weight in network.parameters()) < SMALL
    return None if is_small and not cpu.widens(network.dtype) else 0


def _attention(network: Model[Any], device: torch.device) -> Attention:
    if device.type == "cuda":
        return CHOSEN
    return cpu.attention if device.type == "cpu" and cpu.is_faster(network) else attention


def _are_right(device: torch.device, dtype: torch.dtype) -> bool:
    from .kernels.proof import fault_of_kernels

    why = fault_of_kernels(device, dtype)
    if why is not None:
        _log.warning("torch's own operations are used in place of kernels in Triton, which are not right here: %s", why)
    return why is None


def _set_kernels(network: Model[Any], wanted: bool) -> None:
    if wanted == network.ops.channels_last:
        return
    if wanted:
        kernels.put_into(network.ops)
        fuse_qkv(network)
    else:
        kernels.take_out(network.ops)
        unfuse_qkv(network)
    # The kernels read pictures channel by channel at each place, and so do the convolutions of tensor cores.
    network.to(memory_format=torch.channels_last if wanted else torch.contiguous_format)  # pyright: ignore[reportCallIssue] -- torch's overloads lack it


def _set_way(unet: UNet2DCondition, wanted: bool) -> None:
    if not wanted:
        if isinstance(unet.way, Graphs):
            unet.way.release()
            unet.way = None
    elif not isinstance(unet.way, Graphs):
        from .cuda_graphs import CudaRecorder

        unet.way = Graphs(CudaRecorder(), _log.info)
