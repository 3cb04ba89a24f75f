"""What adapters cost on real shapes: random Stable Diffusion 1.5 weights, and LoRAs of rank 128 in kohya's naming.

    python benchmarks/adapters.py [--dtype fp32 bf16] [--oracle] [--rounds N] [--rank R] [--side PIXELS]

Every program has a process of its own with the model loaded, and the two take turns, so that what else the machine does
meets both. A round loads the LoRA, changes its strength, unloads it, and then times steps of the UNet without adapters
and with three. The least of all rounds is told. `fused` is the reference's way to a UNet that costs no time a step:
`fuse_lora` after the load, and `unfuse_lora` and `fuse_lora` for another strength. `read` is a plain read of the file.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from full_size import CONFIGS, DTYPES, TOKENIZER, write_folder

TRANSFORMER = (".attentions.", ".self_attn.", ".mlp.")


def write_lora(path: Path, rank: int) -> None:
    """Random factors for the layers that kohya's trainer adapts by default: 192 of the UNet, 72 of the text encoder."""
    import torch
    from safetensors.torch import save_file

    from sdedit_cli.configs.clip import CLIPTextConfig
    from sdedit_cli.configs.unet import UNetConfig
    from sdedit_cli.nn import CLIPTextModel, UNet2DCondition

    with torch.device("meta"):
        unet = UNet2DCondition(UNetConfig.from_dict(CONFIGS["unet"]))
        text = CLIPTextModel(CLIPTextConfig.from_dict(CONFIGS["text_encoder"]))
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


def pipeline(which: str, folder: Path, dtype: str) -> Any:
    import torch

    kind = getattr(torch, DTYPES[dtype])
    if which == "sdedit":
        from sdedit_cli import StableDiffusionImg2ImgPipeline as Ours

        return Ours.from_pretrained(folder, torch_dtype=kind)
    from diffusers import StableDiffusionImg2ImgPipeline
    from transformers import CLIPTextModel, CLIPTokenizer

    parts = {
        "text_encoder": CLIPTextModel.from_pretrained(folder / "text_encoder", dtype=kind),
        "tokenizer": CLIPTokenizer.from_pretrained(TOKENIZER, model_max_length=77),
    }
    return StableDiffusionImg2ImgPipeline.from_pretrained(folder, torch_dtype=kind, safety_checker=None, **parts)


def step_of(which: str, pipe: Any, side: int) -> Callable[[], object]:
    """One call of the UNet for a prompt and its negative."""
    import torch

    kind = pipe.unet.dtype
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 4, side // 8, side // 8, generator=generator).to(kind)
    text = torch.randn(2, 77, 768, generator=generator).to(kind)
    t = torch.full((2,), 500)

    def step() -> object:
        with torch.no_grad():
            if which == "sdedit":
                return pipe.unet(x, pipe.unet.embed_time(t), pipe.unet.context(text))
            return pipe.unet(x, t, encoder_hidden_states=text).sample

    return step


def serve(which: str, folder: str, dtype: str, side: str) -> None:
    """A round for every line on stdin: its seconds as one JSON line on stdout."""
    pipe = pipeline(which, Path(folder), dtype)
    step, lora = step_of(which, pipe, int(side)), Path(folder) / "lora.safetensors"
    # Weights are mapped until they are read, and both programs import on first use.
    step()
    for _ in sys.stdin:
        print(json.dumps(measured(which, pipe, lora, step)), flush=True)


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
    if which == "oracle":
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


def report(folder: Path, dtype: str, programs: list[str], rounds: int, side: int) -> None:
    servers = {
        which: subprocess.Popen(
            [sys.executable, __file__, "--serve", which, str(folder), dtype, str(side)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for which in programs
    }
    best: dict[str, dict[str, float]] = {which: {} for which in programs}
    for _ in range(rounds):
        for which, server in servers.items():
            assert server.stdin
            assert server.stdout
            print("", file=server.stdin, flush=True)
            times: dict[str, float] = json.loads(next(line for line in server.stdout if line.startswith("{")))
            best[which] = {name: min(value, best[which].get(name, value)) for name, value in times.items()}
    for server in servers.values():
        server.communicate()
    for which, least in best.items():
        ratio = least["step with 3"] / least["step"]
        cells = [*(f"{least[name]:.2f}" if name in least else "-" for name in COLUMNS), f"{ratio:.2f}"]
        print("| " + " | ".join((dtype, which, *cells)) + " |", flush=True)


COLUMNS = ("load", "fuse", "strength", "strength, fused", "unload", "step", "step with 3")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dtype", nargs="+", choices=DTYPES, default=["fp32", "bf16"])
    parser.add_argument("--oracle", action="store_true")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rank", type=int, default=128)
    parser.add_argument("--side", type=int, default=256, help="of the picture that steps are timed at")
    parser.add_argument("--serve", nargs=4, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        serve(*args.serve)
        return
    programs = ["sdedit", "oracle"] if args.oracle else ["sdedit"]
    heads = ("dtype", "program", *(f"{name} s" for name in COLUMNS), "with 3 / without")
    for number, dtype in enumerate(args.dtype):
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary) / "model"
            write_folder(folder, dtype)
            lora = folder / "lora.safetensors"
            write_lora(lora, args.rank)
            if not number:
                read = min(read_seconds(lora) for _ in range(3))
                print(f"LoRA of {lora.stat().st_size / 1e6:.0f} MB, read {read:.2f} s; {os.cpu_count()} processors\n")
                print("| " + " | ".join(heads) + " |\n" + "|---" * len(heads) + "|")
            report(folder, dtype, programs, args.rounds, args.side)


if __name__ == "__main__":
    main()
