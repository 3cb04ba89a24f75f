"""--backend openvino beside torch on the same networks, taking turns: a guided step, encode and decode of one picture.

    python -m benchmarks.openvino MODEL [--dtype bf16] [--side 512] [--rounds 3] [--parts step decode encode]

Also how long it takes to convert and to compile, and how far both are apart. Take `ONEDNN_MAX_CPU_ISA=AVX512_CORE_BF16`
into the environment for the numbers of a processor without AMX.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sdedit_cli.runtime.dtype import choose
from sdedit_cli.runtime.openvino import InMemory, Machine, attach
from sdedit_cli.weights import load_networks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--dtype", default="bf16")
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--parts", nargs="+", default=["step", "decode", "encode"])
    given = parser.parse_args()
    dtype = choose(given.dtype)
    loaded = load_networks(given.model, dtype=dtype, skip=("text_encoder", "tokenizer"))
    shelf = InMemory()
    print(f"{given.dtype}, {given.side} px, {torch.get_num_threads()} threads")
    for part in given.parts:
        with torch.no_grad():
            _compare(part, loaded, dtype, given.side, given.rounds, shelf)


def _compare(part: str, loaded: Any, dtype: torch.dtype, side: int, rounds: int, shelf: InMemory) -> None:
    network = loaded.unet if part == "step" else loaded.vae
    call = _call(part, network, dtype, side)
    layers = _seconds(call)[1]
    attach([network], Machine(threads=torch.get_num_threads(), shelf=shelf))
    compiled = _ways(network)
    first, ours = _seconds(call)
    taken: dict[str, list[float]] = {"torch": [], "openvino": []}
    for _ in range(rounds):
        for name, ways in (("torch", None), ("openvino", compiled)):
            _set_ways(network, ways)
            taken[name].append(_seconds(call)[0])
    apart = (ours.float() - layers.float()).abs()
    torch_s, openvino_s = (statistics.median(taken[name]) for name in ("torch", "openvino"))
    print(
        f"{part}: torch {torch_s:.2f} s, openvino {openvino_s:.2f} s ({torch_s / openvino_s:.2f} x), "
        f"first call {first:.1f} s; apart {float(apart.max()):.1e}, mean {float(apart.mean()):.1e} "
        f"of {float(layers.float().abs().mean()):.2f}; all {taken}",
        flush=True,
    )
    if part != "step":
        _set_ways(network, None)


def _ways(network: Any) -> Any:
    return network.way if hasattr(network, "way") else dict(network.ways)


def _set_ways(network: Any, ways: Any) -> None:
    if hasattr(network, "way"):
        network.way = ways
    else:
        network.ways = ways or {}


def _call(part: str, network: Any, dtype: torch.dtype, side: int) -> Callable[[], Tensor]:
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


if __name__ == "__main__":
    main()
