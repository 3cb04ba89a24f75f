"""How fast a single file of 2 GB loads, and what memory that takes, with and without a cast.

Each value is a process of its own with the file in the page cache. Told are the seconds until every weight was read
once after the load, so that mapped pages count; GB/s are the file's bytes by that time. `peak` is the growth of
resident memory over the imports, divided by the bytes of the file and by those of the loaded weights. Two floors: a
plain read of the file's bytes through a small buffer, and writing once to as much fresh memory as the weights take in
fp32, which a load with a cast cannot do without.
"""

from __future__ import annotations

import argparse
import mmap
import os
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from .common.children import Answer, once
from .common.machine import memory
from .common.programs import ORACLE, environment
from .common.rates import DTYPES
from .common.rows import OURS, Row
from .common.turns import disturbed, turns, values

BUDGET = 30.0


def options(parser: argparse._ArgumentGroup) -> None:
    parser.add_argument("--ckpt", action="store_true", help="a .ckpt too")
    parser.add_argument("--threads", nargs="+", type=int, help="of torch (default: as many as there are cores)")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="write the files there and leave them")


def run(given: argparse.Namespace) -> Iterator[Row]:
    rounds = 1 if given.quick else given.rounds or 3
    for path in write_files(given.model, given.keep or given.place / "load", given.ckpt):
        size = path.stat().st_size
        for name, floor in (("plain read", read_bytes), ("fresh memory of fp32", fresh_memory)):
            said = [once(f"benchmarks.load:{floor.__name__}", str(path)) for _ in range(rounds)]
            yield Row(f"{path.name}, {size / 1e9:.2f} GB", name, values(said, "touched"))
        for dtype in given.dtype or ("bf16", "fp32"):
            for threads in given.threads or [os.cpu_count() or 1]:
                yield from _rows(given, path, dtype, threads, rounds)


def _rows(given: argparse.Namespace, path: Path, dtype: str, threads: int, rounds: int) -> Iterator[Row]:
    words, size = (str(path), str(given.model), dtype, threads), path.stat().st_size
    asks = {
        name: partial(once, "benchmarks.load:load", name, *words, env=environment(name))
        for name in (OURS, ORACLE)
        if name in given.programs
    }
    for name, said in turns(asks, rounds, BUDGET * given.budget).items():
        best = min(said, key=lambda answer: answer["touched"])
        also = {"load s": best["load"], "CPU s": best["cpu"], "GB/s": size / best["touched"] / 1e9}
        also |= {"peak / file": best["peak"] / size, "peak / weights": best["peak"] / best["held"], **disturbed(said)}
        yield Row(f"{path.name} to {dtype}, {threads} threads", name, values(said, "touched"), also=also)


def write_files(model: Path, folder: Path, pickled: bool) -> list[Path]:
    """The model's weights as a safetensors file in LDM's naming, and as a .ckpt too where asked for."""
    import torch

    from sdedit_cli.weights import open_weights
    from sdedit_cli.weights.write.convert import convert

    folder.mkdir(exist_ok=True)
    paths = [folder / "model.safetensors", *([folder / "model.ckpt"] if pickled else [])]
    if not paths[0].exists():
        convert(model, paths[0], to="ldm")
    if pickled and not paths[1].exists():
        source = open_weights(paths[0])
        state = {name: source.get(name) for name in source.names()}
        torch.save({"state_dict": state, "global_step": 1}, paths[1])
    return paths


def read_bytes(path: str) -> Answer:
    began, began_cpu = time.perf_counter(), time.process_time()
    buffer = bytearray(1 << 24)
    with open(path, "rb", buffering=0) as file:
        while file.readinto(buffer):
            pass
    return {"touched": time.perf_counter() - began, "cpu": time.process_time() - began_cpu}


def fresh_memory(path: str) -> Answer:
    import torch

    memory = torch.empty(2 * Path(path).stat().st_size, dtype=torch.uint8)
    began, began_cpu = time.perf_counter(), time.process_time()
    memory[:: mmap.PAGESIZE] = 1
    return {"touched": time.perf_counter() - began, "cpu": time.process_time() - began_cpu}


def load(which: str, path: str, config: str, dtype: str, threads: int) -> Answer:
    began = time.perf_counter()
    import torch

    imported = time.perf_counter() - began
    torch.set_num_threads(threads)
    target = getattr(torch, DTYPES[dtype])
    if which == ORACLE:
        from diffusers import StableDiffusionImg2ImgPipeline as Pipeline
        from transformers import CLIPTextModel, CLIPTokenizer  # noqa: F401  (else the load imports it)

        tokenizer = CLIPTokenizer.from_pretrained(Path(config) / "tokenizer")
    else:
        from sdedit_cli.weights.load.networks import load_networks
    baseline = memory("VmRSS")
    began, began_cpu = time.perf_counter(), time.process_time()
    if which == ORACLE:
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
