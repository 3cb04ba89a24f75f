"""What adapters cost on real shapes: a LoRA of rank 128 in kohya's naming, for all layers that its trainer adapts.

A round loads the LoRA (its products are kept from then on), changes its strength four times, unloads it, and then times
steps of the UNet without adapters and with three. `fuse` and `strength, fused` are the reference's way to a UNet
that costs no time a step: `fuse_lora` after the load, and `unfuse_lora` and `fuse_lora` for another strength. `read` is
a plain read of the file.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from .common.children import Answer, Server
from .common.programs import ORACLE, RUNNERS, environment
from .common.rows import OURS, Row
from .common.turns import disturbed, turns, values

TRANSFORMER = (".attentions.", ".self_attn.", ".mlp.")
BUDGET = 60.0
WORKS = (
    "load",
    "fuse",
    "strength",
    "strength, second",
    "strength, later",
    "strength, fused",
    "unload",
    "step",
    "step with 3",
)


def options(parser: argparse._ArgumentGroup) -> None:
    parser.add_argument("--rank", type=int, default=128, help="of the LoRA (default: 128)")
    parser.add_argument("--side", type=int, default=256, help="pixels that steps are timed at (default: 256)")


def run(given: argparse.Namespace) -> Iterator[Row]:
    lora = given.place / "lora.safetensors"
    write_lora(lora, given.model, 4 if given.quick else given.rank)
    size = f"LoRA of {lora.stat().st_size / 1e6:.0f} MB"
    yield Row(f"read, {size}", "plain read", tuple(read_seconds(lora) for _ in range(3)))
    side, rounds = (64, 1) if given.quick else (given.side, given.rounds or 3)
    for dtype in given.dtype or ["bf16"]:
        with ExitStack() as stack:
            asks = {}
            for name in (OURS, ORACLE):
                if name in given.programs:
                    words = (name, str(given.model), str(lora), dtype, side)
                    server = Server("benchmarks.adapters:serve", *words, env=environment(name))
                    asks[name] = stack.enter_context(server).ask
            answers = turns(asks, rounds, BUDGET * given.budget)
        for work in WORKS:
            for name, said in answers.items():
                if work in said[0]:
                    yield Row(f"{work}, {dtype}", name, values(said, work), also=disturbed(said))


def write_lora(path: Path, model: Path, rank: int) -> None:
    """Random factors for the layers that kohya's trainer adapts by default: 192 of the UNet, 72 of the text encoder."""
    import torch
    from safetensors.torch import save_file

    from sdedit_cli.configs.clip import CLIPTextConfig
    from sdedit_cli.configs.unet import UNetConfig
    from sdedit_cli.nn import CLIPTextModel, UNet2DCondition

    def config(part: str) -> dict[str, Any]:
        return json.loads((model / part / "config.json").read_text(encoding="utf-8"))

    with torch.device("meta"):
        unet = UNet2DCondition(UNetConfig.from_dict(config("unet")))
        text = CLIPTextModel(CLIPTextConfig.from_dict(config("text_encoder")))
    generator = torch.Generator().manual_seed(0)
    tensors: dict[str, Any] = {}
    for prefix, network in (("lora_unet_", unet), ("lora_te_", text)):
        for name, layer in network.named_modules():
            if any(part in name for part in TRANSFORMER) and isinstance(layer, (torch.nn.Linear, torch.nn.Conv2d)):
                key, ones = prefix + name.replace(".", "_"), (1,) * (layer.weight.dim() - 2)
                out, into = layer.weight.shape[:2]
                for leaf, shape in (("lora_down", (rank, into, *ones)), ("lora_up", (out, rank, *ones))):
                    tensors[f"{key}.{leaf}.weight"] = (0.01 * torch.randn(shape, generator=generator)).half()
                tensors[f"{key}.alpha"] = torch.tensor(float(rank), dtype=torch.float16)
    save_file(tensors, path)


def step_of(which: str, pipe: Any, side: int) -> Callable[[], object]:
    """One call of the UNet for a prompt and its negative."""
    import torch

    kind = pipe.unet.dtype
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 4, side // 8, side // 8, generator=generator).to(kind)
    text = torch.randn(2, 77, pipe.unet.config.cross_attention_dim, generator=generator).to(kind)
    t = torch.full((2,), 500)

    def step() -> object:
        with torch.no_grad():
            if which == OURS:
                return pipe.unet(x, pipe.unet.embed_time(t), pipe.unet.context(text))
            return pipe.unet(x, t, encoder_hidden_states=text).sample

    return step


def serve(which: str, model: str, lora: str, dtype: str, side: int) -> Callable[[], Answer]:
    """Answers with the seconds of a round."""
    pipe = RUNNERS[which](Path(model), dtype).pipe
    step = step_of(which, pipe, side)
    # Weights are mapped until they are read, and both programs import on first use.
    step()
    return lambda: measured(which, pipe, Path(lora), step)


def measured(which: str, pipe: Any, lora: Path, step: Callable[[], object]) -> dict[str, float]:
    times: dict[str, float] = {}

    def timed(name: str, work: Callable[[], object]) -> None:
        began = time.perf_counter()
        work()
        times[name] = min(time.perf_counter() - began, times.get(name, float("inf")))

    def again() -> None:
        pipe.unfuse_lora()
        pipe.fuse_lora(lora_scale=0.5)

    def load(name: str) -> None:
        pipe.load_lora_weights(lora.parent, weight_name=lora.name, adapter_name=name)

    timed("load", lambda: load("a"))
    timed("strength", lambda: pipe.set_adapters("a", 0.5))
    timed("strength, second", lambda: pipe.set_adapters("a", 0.7))
    for strength in (0.2, 0.9):
        timed("strength, later", partial(pipe.set_adapters, "a", strength))
    if which == ORACLE:
        pipe.set_adapters("a", 1.0)
        timed("fuse", pipe.fuse_lora)
        timed("strength, fused", again)
        pipe.unfuse_lora()
    timed("unload", pipe.unload_lora_weights)
    for _ in range(2):
        timed("step", step)
    for name in "abc":
        load(name)
    pipe.set_adapters(["a", "b", "c"], [1.0, 0.5, -0.5])
    for _ in range(2):
        timed("step with 3", step)
    pipe.unload_lora_weights()
    return times


def read_seconds(path: Path) -> float:
    buffer, began = bytearray(1 << 24), time.perf_counter()
    with path.open("rb", buffering=0) as file:
        while file.readinto(buffer):
            pass
    return time.perf_counter() - began
