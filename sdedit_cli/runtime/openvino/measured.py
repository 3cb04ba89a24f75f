"""Whether OpenVINO or torch is faster here: measured once on a small part of a UNet, and kept.

Shapes: B rows, C channels, H W latents, E time embedding, S keys.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from hashlib import sha256

import torch

from ...configs.unet import UNetConfig
from ...nn import UNet2DCondition
from .. import cpu
from .machine import Machine, release
from .networks import attach
from .shelf import kept

# The first level of Stable Diffusion: most of the time of a step goes there, into long attention and convolutions.
_PART = UNetConfig(
    down_block_types=("CrossAttnDownBlock2D",),
    up_block_types=("CrossAttnUpBlock2D",),
    mid_block_type=None,
    block_out_channels=(320,),
    layers_per_block=1,
    cross_attention_dim=768,
    attention_head_dim=8,
)
_SIDE, _TIMES = 32, 2
# A backend that is faster by less is not worth its other last bits.
_WORTH = 0.95


def is_faster(machine: Machine, dtype: str) -> bool:
    """Whether OpenVINO takes clearly less time than torch in that precision on this machine."""
    kind = machine.dtype(dtype)
    facts = (machine.device, machine.threads, kind, release(), torch.__version__, platform.machine(), os.cpu_count())
    isa = torch.backends.cpu.get_cpu_capability()
    name = f"choice-{sha256(repr((*facts, isa)).encode()).hexdigest()[:32]}"

    def measured() -> bytes:
        return str(_ratio(machine, kind)).encode()

    return kept(machine.shelf, name, measured, float) < _WORTH


@torch.no_grad()
def _ratio(machine: Machine, dtype: torch.dtype) -> float:
    """The time of OpenVINO over that of torch."""
    generator = torch.Generator().manual_seed(0)
    unet = UNet2DCondition(_PART).eval()
    for parameter in unet.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.02)
    unet.to(dtype)
    context = unet.context(torch.randn(2, 77, 768, generator=generator).to(dtype))
    x_BCHW = torch.randn(2, 4, _SIDE, _SIDE, generator=generator).to(dtype)
    emb_BE = unet.embed_time(torch.tensor([10.0, 10.0]), dtype=dtype)

    def call() -> object:
        return unet.step(x_BCHW, emb_BE, context)

    cpu.put_into(unet)  # as networks of full size compute
    theirs = _seconds(call)
    cpu.take_out(unet)
    attach([unet], machine)
    return _seconds(call) / theirs


def _seconds(call: Callable[[], object]) -> float:
    """The least time of a call, after a first one."""
    call()
    taken: list[float] = []
    for _ in range(_TIMES):
        begun = time.perf_counter()
        call()
        taken.append(time.perf_counter() - begun)
    return min(taken)
