"""Steps of a guided picture with random weights of SD 1.5's size, by ours and the reference: one, and 16 at once.

`steps a second` count pictures' steps: a step of 16 pictures is 16. `preparation` is what the first two steps of a
process take beyond the time of two later ones: kernels that are compiled, attention that is measured, a graph captured.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from typing import Any

from ..common.rows import OURS, Row
from .checks import check
from .graphs import equipped
from .models import Work, flops, our_step, same_in_reference, their_step, unet_of

ORACLE, LAST = "diffusers", "diffusers, channels_last"
ROUNDS, SECONDS = 3, 1.5
MOST_PREPARATION = 5.0


def run(given: argparse.Namespace) -> Iterator[Row]:
    import torch

    unet = unet_of(given)
    began = time.perf_counter()
    equipped(given, unet)
    step = our_step(given, unet)
    for _ in range(2):
        step()
    finish(given)
    prepared = time.perf_counter() - began
    row = timed(given, OURS, step)
    yield row
    if given.device.startswith("cuda"):
        yield check("preparation", OURS, max(0.0, prepared - 2 * row.median), MOST_PREPARATION, "s")
    for batch in () if given.quick else (16,):
        yield timed(given, OURS, our_step(given, unet, batch), batch)
    theirs = same_in_reference(given, unet_of(given))
    yield timed(given, ORACLE, their_step(given, theirs))
    if given.device.startswith("cuda"):
        theirs.to(memory_format=torch.channels_last)
        yield timed(given, LAST, their_step(given, theirs))
        yield timed(given, LAST, their_step(given, theirs, 16), 16)


def timed(given: argparse.Namespace, program: str, step: Work, batch: int = 1, what: str = "") -> Row:
    """The seconds of a step, after some that are not counted, with what memory they took at most."""
    import torch

    on_gpu = given.device.startswith("cuda")
    for _ in range(4 if on_gpu else 3):  # a graph is captured at the second
        step()
    finish(given)
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    values = tuple(_round(given, step) for _ in range(1 if given.quick else ROUNDS))
    median = sorted(values)[len(values) // 2]
    also: dict[str, Any] = {"steps a second": batch / median}
    if on_gpu:
        also["peak GB"] = torch.cuda.max_memory_allocated() / 1e9
    dtype = "fp16" if on_gpu else "fp32"
    return Row(what or f"step of {batch}, guided, {dtype}", program, values, "s", flops(given, batch), dtype, also)


def _round(given: argparse.Namespace, step: Work) -> float:
    seconds = 0.05 if given.quick else SECONDS
    began, done = time.perf_counter(), 0
    while not done or time.perf_counter() - began < seconds:
        for _ in range(10 if given.device.startswith("cuda") else 1):
            step()
            done += 1
        finish(given)
    return (time.perf_counter() - began) / done


def finish(given: argparse.Namespace) -> None:
    """Waits for the device."""
    import torch

    if given.device.startswith("cuda"):
        torch.cuda.synchronize()
