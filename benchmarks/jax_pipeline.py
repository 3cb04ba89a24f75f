"""A guided step of the JAX pipeline beside one of the torch engine, on this CPU, and the memory that it takes.

`first` is the first step with the encoding of the picture, both traced and compiled; `peak` the growth of resident
memory over the imports, from loading the weights to the last step; `of the weights` that by the checkpoint's bytes.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from .common.children import Answer, Server
from .common.machine import memory
from .common.models import weights_bytes
from .common.programs import GUIDANCE, STEPS, environment, latents, texts
from .common.rates import DTYPES
from .common.rows import OURS, Row
from .common.turns import seconds, turns, values

JAX, BUDGET = "sdedit, JAX", 60.0


def options(parser: argparse._ArgumentGroup) -> None:
    parser.add_argument("--jax-side", type=int, default=256, help="pixels of the step (default: 256)")


def run(given: argparse.Namespace) -> Iterator[Row]:
    if find_spec("jax") is None:
        print("jax is not installed", file=sys.stderr)
        return
    side, rounds = (64, 1) if given.quick else (given.jax_side, given.rounds or 3)
    for dtype in given.dtype or ["bf16"]:
        words = (str(given.model), dtype)
        torch = Server("benchmarks.common.programs:serve", OURS, *words, env=environment(OURS))
        jax = Server("benchmarks.jax_pipeline:serve", *words, side, env=environment(OURS))
        with torch, jax:
            asks = {OURS: partial(torch.ask, work="step", side=side), JAX: jax.ask}
            first = {name: ask() for name, ask in asks.items()}[JAX]
            answers = turns(asks, rounds, BUDGET * given.budget)
        yield Row(f"step, {side}, {dtype}", OURS, values(answers[OURS]), "s", dtype=dtype)
        peak = answers[JAX][-1]["peak"]
        also = {"first s": first["seconds"], "peak MB": peak / 1e6, "of the weights": peak / weights_bytes(given.model)}
        yield Row(f"step, {side}, {dtype}", JAX, values(answers[JAX]), "s", dtype=dtype, also=also)


def serve(model: str, dtype: str, side: int) -> Callable[[], Answer]:
    """Answers with the seconds of the next step, and the peak of memory so far."""
    import jax.numpy as jnp
    import numpy as np
    import torch

    from sdedit_cli.jaxport.pipeline import FlaxStableDiffusionImg2ImgPipeline
    from sdedit_cli.jaxport.plan import plan_of
    from sdedit_cli.jaxport.program import Configs
    from sdedit_cli.jaxport.stepping import Draws, Model

    before = memory("VmRSS")
    pipe, params = FlaxStableDiffusionImg2ImgPipeline.from_pretrained(Path(model), dtype=getattr(jnp, DTYPES[dtype]))
    configs = Configs(pipe.unet.config, pipe.vae.config, pipe.text_encoder.config)
    noise = latents(1, side, torch.float32).numpy()
    text = texts(2, configs.unet.cross_attention_dim, torch.float32).numpy()
    plan = plan_of(pipe.scheduler, pipe.scheduler.grid(min(STEPS, 50)), 0)
    image: Any = np.zeros((1, 3, side, side), np.float32)
    steps = Model(configs, params).walk(plan, image, Draws(noise, noise, []), text, GUIDANCE, True)

    def answer() -> Answer:
        taken = seconds(lambda: np.asarray(next(steps)))
        return {"seconds": taken, "peak": memory("VmHWM") - before}

    return answer
