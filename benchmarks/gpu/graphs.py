"""Recorded steps against the steps themselves, with other weights, FreeU and image prompts between them: the furthest
number as a share of the largest. On a CPU a tape stands for the graph."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from ..common.rows import Row
from .checks import check, furthest
from .models import kind_of, side_of, unet_of

BOUND = 2e-3
"""The kernels are the same; attention may be summed in another order from call to call."""


def run(given: argparse.Namespace) -> Iterator[Row]:
    import torch

    from sdedit_cli.nn import FreeU, ImageSource

    unet = equipped(given, unet_of(given))
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Any:
        return torch.randn(shape, generator=generator).to(given.device, kind_of(given))

    def step(what: str, context: Any, freeu: Any = None) -> Row:
        """The step three times: as it is, recorded, and from the recording."""
        worst = 0.0
        for _ in range(3):
            side = side_of(given) // 8
            x, emb = normal(2, 4, side, side), unet.embed_time(torch.tensor([900.0, 10.0]))
            worst = max(worst, furthest(unet.step(x, emb, context, freeu), unet(x, emb, context, freeu)))
        return check(what, "graph against eager", worst, BOUND)

    with torch.no_grad():
        context = unet.context(normal(2, 77, unet.config.cross_attention_dim))
        yield step("a step", context)
        yield step("another prompt", unet.context(normal(2, 77, unet.config.cross_attention_dim)))
        for parameter in unet.parameters():
            parameter.mul_(1.01)
        yield step("weights that adapters changed in place", context)
        yield step("FreeU", context, FreeU(0.9, 0.2, 1.2, 1.4))
        for scale in (0.5, 0.8):
            kv = tuple(
                (normal(*k.shape[:2], 4, k.shape[3]), normal(*v.shape[:2], 4, v.shape[3])) for k, v in context.kv
            )
            images = (ImageSource(kv, tuple(scale for _ in kv)),)
            yield step(f"an image prompt of {scale:g}", replace(context, images=images))
        for parameter in unet.parameters():
            parameter.data = parameter.data * 0.99
        yield step("weights that lie elsewhere", context)
        held = len(unet.way._held)
        yield check("recordings held", "graphs", held, unet.way.most)
        if not held:
            yield check("no step could be recorded", "graphs", 1, 0)


def equipped(given: argparse.Namespace, unet: Any) -> Any:
    """A UNet that computes as an edit has it; on a CPU with a tape for graphs."""
    import torch

    from sdedit_cli.runtime import cpu
    from sdedit_cli.runtime.equip import equip
    from sdedit_cli.runtime.graphs import Graphs
    from sdedit_cli.runtime.tape import TapeRecorder

    equip(unet, torch.device(given.device))
    if not given.device.startswith("cuda"):
        cpu.take_out(unet)  # as it is on a GPU, and a tape holds nothing of packed weights
        unet.way = Graphs(TapeRecorder())
    return unet
