"""How fast a single file of 2 GB loads, and what memory that takes: random Stable Diffusion 1.5 weights in fp16.

    python benchmarks/load.py [--oracle] [--keep FOLDER]

Each row is a child process of its own with the file in the page cache, on one thread and on as many as there are
processors. `touched` reads every weight once after the load, so that mapped pages count; GB/s are the file's bytes by
that time. `peak` is the growth of resident memory over the imports, divided by the bytes of the file and by those of
the loaded weights. Two floors: a plain read of the file's bytes through a small buffer, and writing once to as much
fresh memory as the weights take in fp32, which a load with a cast cannot do without.
"""

from __future__ import annotations

import argparse
import json
import mmap
import os
import subprocess
import sys
import tempfile
import time
from itertools import product
from pathlib import Path

from full_size import TOKENIZER, memory, write_folder

DTYPES = {"fp16": "float16", "bf16": "bfloat16", "fp32": "float32"}


def write_files(folder: Path) -> list[Path]:
    """The same fp16 weights as a safetensors file and as a .ckpt in LDM's naming."""
    import torch

    from sdedit_cli.weights import open_weights
    from sdedit_cli.weights.write.convert import convert

    write_folder(folder / "configs", "fp16")
    convert(folder / "configs", folder / "model.safetensors", to="ldm")
    source = open_weights(folder / "model.safetensors")
    state = {name: source.get(name) for name in source.names()}
    torch.save({"state_dict": state, "global_step": 1}, folder / "model.ckpt")
    return [folder / "model.safetensors", folder / "model.ckpt"]


def read_bytes(path: str) -> dict[str, float]:
    began, began_cpu = time.perf_counter(), time.process_time()
    buffer = bytearray(1 << 24)
    with open(path, "rb", buffering=0) as file:
        while file.readinto(buffer):
            pass
    return {"load": time.perf_counter() - began, "cpu": time.process_time() - began_cpu}


def fresh_memory(path: str) -> dict[str, float]:
    import torch

    memory = torch.empty(2 * Path(path).stat().st_size, dtype=torch.uint8)
    began, began_cpu = time.perf_counter(), time.process_time()
    memory[:: mmap.PAGESIZE] = 1
    return {"load": time.perf_counter() - began, "cpu": time.process_time() - began_cpu}


def load(which: str, path: str, config: str, dtype: str, threads: str) -> dict[str, float]:
    began = time.perf_counter()
    import torch

    imported = time.perf_counter() - began
    torch.set_num_threads(int(threads))
    target = getattr(torch, DTYPES[dtype])
    if which == "oracle":
        from diffusers import StableDiffusionImg2ImgPipeline as Pipeline
        from transformers import CLIPTextModel, CLIPTokenizer  # noqa: F401  (else the load imports it)

        tokenizer = CLIPTokenizer.from_pretrained(TOKENIZER)
    else:
        from sdedit_cli.weights.load.networks import load_networks
    baseline = memory("VmRSS")
    began, began_cpu = time.perf_counter(), time.process_time()
    if which == "oracle":
        options = {"config": config, "torch_dtype": target, "local_files_only": True, "safety_checker": None}
        model = Pipeline.from_single_file(path, tokenizer=tokenizer, **options)
    else:
        model = load_networks(path, dtype=target)
    loaded = time.perf_counter() - began
    parameters = [p for part in (model.unet, model.vae, model.text_encoder) for p in part.parameters()]
    for parameter in parameters:
        parameter.detach().view(-1)[:: 4096 // parameter.element_size()].sum()
    touched = time.perf_counter() - began
    cpu = time.process_time() - began_cpu
    peak = memory("VmHWM") - baseline
    held = sum(p.nbytes for p in parameters)
    return {"import": imported, "load": loaded, "touched": touched, "cpu": cpu, "peak": peak, "held": held}


def child(which: str, *args: str) -> dict[str, float]:
    command = [sys.executable, __file__, "--child", which, *args]
    out = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True).stdout
    return json.loads(out.splitlines()[-1])


def report(path: Path, config: Path, programs: list[str]) -> None:
    size = path.stat().st_size
    read = min((child("read", str(path)) for _ in range(3)), key=lambda row: row["load"])
    fresh = min((child("fresh", str(path)) for _ in range(3)), key=lambda row: row["load"])
    print(
        f"\n{path.name}: {size / 1e9:.2f} GB; plain read {read['load']:.2f} s, "
        f"{2 * size / 1e9:.2f} GB of fresh memory {fresh['load']:.2f} s ({2 * size / fresh['load'] / 1e9:.2f} GB/s)\n"
    )
    columns = "dtype|program|threads|import torch s|load s|touched s|CPU s|GB/s|peak / file|peak / weights"
    print("| " + columns.replace("|", " | ") + " |")
    print("|---" * len(columns.split("|")) + "|")
    for dtype, which, threads in product(DTYPES, programs, sorted({1, os.cpu_count() or 1})):
        rows = [child(which, str(path), str(config), dtype, str(threads)) for _ in range(3)]
        row = min(rows, key=lambda row: row["touched"])
        times = [f"{row[name]:.2f}" for name in ("import", "load", "touched", "cpu")]
        ratios = [size / row["touched"] / 1e9, row["peak"] / size, row["peak"] / row["held"]]
        cells = [dtype, which, str(threads), *times, *(f"{ratio:.2f}" for ratio in ratios)]
        print("| " + " | ".join(cells) + " |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--oracle", action="store_true")
    parser.add_argument("--keep", type=Path, help="write the files there and leave them")
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        which, *rest = args.child
        floors = {"read": read_bytes, "fresh": fresh_memory}
        print(json.dumps(floors[which](*rest) if which in floors else load(which, *rest)))
        return
    programs = ["sdedit", "oracle"] if args.oracle else ["sdedit"]
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.keep or Path(temporary)
        files = [folder / "model.safetensors", folder / "model.ckpt"]
        for path in files if files[0].exists() else write_files(folder):
            report(path, folder / "configs", programs)


if __name__ == "__main__":
    main()
