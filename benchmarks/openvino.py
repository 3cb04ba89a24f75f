"""`--backend openvino` beside torch on the same networks, taking turns, and how far both are apart.

`step` is one of a guided picture without the solver's part. `first s` is the first call on OpenVINO, which converts and
compiles; `apart` the largest difference of what both say, `mean` the mean one, of values of about `of`.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from .common.children import Answer
from .common.programs import OURS_ON_OPENVINO
from .common.rates import DTYPES
from .common.rows import OURS, Row
from .common.turns import turns, values

if TYPE_CHECKING:
    import torch
    from torch import Tensor

PARTS = ("step", "decode", "encode")


def run(given: argparse.Namespace) -> Iterator[Row]:
    if find_spec("openvino") is None:
        print("openvino is not installed", file=sys.stderr)
        return
    import torch

    from sdedit_cli.runtime.openvino import InMemory
    from sdedit_cli.weights import load_networks

    side, rounds = (64, 1) if given.quick else (512, given.rounds or 3)
    shelf = InMemory()
    for name in given.dtype or ["bf16"]:
        dtype = getattr(torch, DTYPES[name])
        loaded = load_networks(given.model, dtype=dtype, skip=("text_encoder", "tokenizer"))
        for part in PARTS:
            with torch.no_grad():
                yield from _compared(f"{part}, {side}, {name}", part, loaded, dtype, side, rounds, shelf)


def _compared(
    what: str, part: str, loaded: Any, dtype: torch.dtype, side: int, rounds: int, shelf: Any
) -> Iterator[Row]:
    import torch

    from sdedit_cli.runtime.openvino import Machine, attach

    network = loaded.unet if part == "step" else loaded.vae
    call = _call(part, network, dtype, side)
    layers = _seconds(call)[1]
    attach([network], Machine(threads=torch.get_num_threads(), shelf=shelf))
    compiled = _ways(network)
    first, ours = _seconds(call)
    asks = {OURS: partial(_turn, network, None, call), OURS_ON_OPENVINO: partial(_turn, network, compiled, call)}
    answers = turns(asks, rounds)
    apart = (ours.float() - layers.float()).abs()
    also = {"first s": first, "apart": float(apart.max()), "mean": float(apart.mean())}
    also["of"] = float(layers.float().abs().mean())
    _set_ways(network, None)
    yield Row(what, OURS, values(answers[OURS]))
    yield Row(what, OURS_ON_OPENVINO, values(answers[OURS_ON_OPENVINO]), also=also)


def _turn(network: Any, ways: Any, call: Callable[[], Tensor]) -> Answer:
    _set_ways(network, ways)
    return {"seconds": _seconds(call)[0]}


def _ways(network: Any) -> Any:
    return network.way if hasattr(network, "way") else dict(network.ways)


def _set_ways(network: Any, ways: Any) -> None:
    if hasattr(network, "way"):
        network.way = ways
    else:
        network.ways = ways or {}


def _call(part: str, network: Any, dtype: torch.dtype, side: int) -> Callable[[], Tensor]:
    import torch

    draw = torch.Generator().manual_seed(0)
    latents = torch.randn(2, 4, side // 8, side // 8, generator=draw).to(dtype)
    if part == "decode":
        return lambda: network.decode(latents[:1])
    if part == "encode":
        image = (torch.rand(1, 3, side, side, generator=draw) * 2 - 1).to(dtype)
        return lambda: network.encode(image).mean
    context = network.context(torch.randn(2, 77, network.config.cross_attention_dim, generator=draw).to(dtype))
    emb = network.embed_time(torch.tensor([500.0, 500.0]), dtype=dtype)
    return lambda: network.step(latents, emb, context)


def _seconds(call: Callable[[], Tensor]) -> tuple[float, Tensor]:
    begun = time.perf_counter()
    result = call()
    return time.perf_counter() - begun, result
