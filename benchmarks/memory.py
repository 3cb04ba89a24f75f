"""What loading and editing take at most of resident memory.

`load` is the growth over what the imports took, every weight read once after it so that mapped files count; `edit` the
whole of the process that made a picture of a single step in bf16, imports with it. `decode` is of a large picture by
the autoencoder alone, in its tiles, as `--low-memory` has it: over what its weights take. Resident memory counts a
mapped file as far as it is read, which other processes share.
"""

from __future__ import annotations

import argparse
import gc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from .common.children import Answer, once
from .common.machine import memory
from .common.models import weights_bytes
from .common.programs import GUIDANCE, ORACLE, RUNNERS, environment, photo
from .common.rows import OURS, Row
from .common.turns import seconds


def options(parser: argparse._ArgumentGroup) -> None:
    parser.add_argument("--decode-side", type=int, default=2048, help="pixels of the large picture (default: 2048)")


def run(given: argparse.Namespace) -> Iterator[Row]:
    tall = given.decode_side // 16 if given.quick else given.decode_side
    files, side = weights_bytes(given.model), 64 if given.quick else 512
    rows: list[Row] = []
    for program in (OURS, ORACLE):
        if program not in given.programs:
            continue
        said = once("benchmarks.memory:measured", program, str(given.model), side, env=environment(program))
        for work in ("load", "edit"):
            also = {"seconds": said[f"{work} seconds"]}
            if work == "load":
                also["of the files"] = said[work] / files
            rows.append(Row(f"{work}, {side}, bf16", program, (said[work] / 1e6,), "MB", also=also))
        said = once("benchmarks.memory:decoded", program, str(given.model), tall, env=environment(program))
        also = {"seconds": said["seconds"]}
        rows.append(Row(f"decode in tiles, {tall}, bf16", program, (said["bytes"] / 1e6,), "MB", also=also))
    yield from sorted(rows, key=lambda row: row.what, reverse=True)


def measured(program: str, model: str, side: int) -> Answer:
    """Seconds of the load and of an edit, the bytes that the load took, and those of the process that edited."""
    import torch

    if program == ORACLE:
        from diffusers import StableDiffusionImg2ImgPipeline as Pipeline
        from transformers import CLIPTextModel, CLIPTokenizer  # noqa: F401  (else the load imports it)
    else:
        from sdedit_cli import StableDiffusionImg2ImgPipeline as Pipeline
    before, said = memory("VmRSS"), {}
    pipe = None

    def load() -> None:
        nonlocal pipe
        pipe = Pipeline.from_pretrained(model, torch_dtype=torch.bfloat16)
        for part in (pipe.unet, pipe.vae, pipe.text_encoder):
            for parameter in part.parameters():
                parameter.detach().view(-1)[::1024].float().sum()

    said["load seconds"], said["load"] = seconds(load), memory("VmHWM") - before
    pipe.set_progress_bar_config(disable=True)
    how = {"strength": 1.0, "num_inference_steps": 1, "guidance_scale": GUIDANCE}
    generator = torch.Generator().manual_seed(0)
    said["edit seconds"] = seconds(lambda: pipe("a photo of a cat", photo(side), generator=generator, **how))
    said["edit"] = memory("VmHWM")
    return said


def decoded(program: str, model: str, side: int) -> Answer:
    """Bytes and seconds of decoding one picture in tiles."""
    import torch

    vae = RUNNERS[program](Path(model), "bf16").pipe.vae
    if program == ORACLE:
        vae.enable_tiling()
    else:
        vae.pieces = replace(vae.pieces, tiling=True)
    gc.collect()
    for parameter in vae.parameters():
        parameter.detach().view(-1)[::1024].float().sum()
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the most of resident memory begins anew
    before = memory("VmRSS")
    latents_BCHW = torch.randn(1, 4, side // 8, side // 8, dtype=vae.dtype)
    with torch.no_grad():
        taken = seconds(lambda: vae.decode(latents_BCHW))
    return {"seconds": taken, "bytes": memory("VmHWM") - before}
