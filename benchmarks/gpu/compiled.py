"""The step compiled: ours by `--compile`, the reference's whole UNet by torch.compile in mode max-autotune."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator

from ..common.rows import OURS, Row
from .graphs import equipped
from .models import our_step, same_in_reference, their_step, unet_of
from .steps import finish, timed


def run(given: argparse.Namespace) -> Iterator[Row]:
    import torch

    from sdedit_cli.runtime.compile import check_compiler, compile_blocks

    check_compiler(torch.device(given.device))
    unet = equipped(given, unet_of(given))
    compile_blocks(unet)
    yield from _both(given, f"{OURS} --compile", our_step(given, unet))
    theirs = same_in_reference(given, unet_of(given)).to(memory_format=torch.channels_last)
    theirs.compile(mode="max-autotune", fullgraph=True, dynamic=False)
    yield from _both(given, "diffusers, compiled (max-autotune)", their_step(given, theirs))


def _both(given: argparse.Namespace, program: str, step) -> Iterator[Row]:
    began = time.perf_counter()
    step()
    finish(given)
    yield Row("the first step, compiled", program, (time.perf_counter() - began,), "s")
    yield timed(given, program, step)
