"""The step of one picture without each technique in turn, and with some that are not used: what each is worth."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from typing import Any

from ..common.rows import OURS, Row
from .graphs import equipped
from .models import our_step, unet_of
from .steps import timed

Change = Callable[[Any], None]


def without_graph(unet: Any) -> None:
    unet.way = None


def without_kernels(unet: Any) -> None:
    """Nor channels last, which torch's own norms turn back."""
    import torch

    from sdedit_cli.runtime import kernels

    kernels.take_out(unet.ops)
    unet.to(memory_format=torch.contiguous_format)


def without_joint_projections(unet: Any) -> None:
    from sdedit_cli.nn.fuse import unfuse_qkv

    unfuse_qkv(unet)


def without_chosen_attention(unet: Any) -> None:
    from sdedit_cli.nn.ops import attention

    unet.ops.attention = attention


def without_all(unet: Any) -> None:
    for change in (without_graph, without_kernels, without_joint_projections, without_chosen_attention):
        change(unet)


def with_tuned_convolutions(unet: Any) -> None:
    """cuDNN tries its algorithms: not used, as pictures would differ from process to process."""
    import torch

    torch.backends.cudnn.benchmark = True


def without_one_kernel(name: str) -> Change:
    def change(unet: Any) -> None:
        from sdedit_cli.nn import Ops

        setattr(unet.ops, name, getattr(Ops(), name))

    return change


CHANGES: dict[str, Change] = {
    "all techniques": lambda unet: None,
    "without the graph": without_graph,
    "without kernels and channels last": without_kernels,
    "without joint projections": without_joint_projections,
    "without the choice of attention": without_chosen_attention,
    "without any": without_all,
    "without the kernel of residuals": without_one_kernel("residual"),
    "without the kernel of LayerNorm": without_one_kernel("add_layer_norm"),
    "without the kernel of GEGLU": without_one_kernel("geglu"),
    "with tuned convolutions": with_tuned_convolutions,
}


def run(given: argparse.Namespace) -> Iterator[Row]:
    import torch

    for name, change in CHANGES.items():
        unet = equipped(given, unet_of(given))
        change(unet)
        try:
            yield timed(given, OURS, our_step(given, unet), what=name)
        finally:
            torch.backends.cudnn.benchmark = False
