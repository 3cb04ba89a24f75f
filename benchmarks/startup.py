"""How long the command line takes to answer, and to edit once from a cold start.

Answers are beside importing the reference's pipeline, which is what a script for it does first. `ready` ends when the
model is loaded (import and `from_pretrained`); `cold edit` when the picture is written: `sdedit run` beside a script of
the reference, at 256 x 256 in bf16. Each is a process of its own, files in the page cache.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from .common.children import ROOT, Answer
from .common.programs import ORACLE, environment, photo
from .common.rows import OURS, Row
from .common.turns import disturbed, turns, values

ANSWERS = {
    "python": ["-c", "pass"],
    "import click": ["-c", "import click"],
    "sdedit --version": ["-m", "sdedit_cli", "--version"],
    "sdedit run --help": ["-m", "sdedit_cli", "run", "--help"],
    "usage error": ["-m", "sdedit_cli", "run", "none.png", "--sampler", "eular"],
}
READY = """
import torch
from {} import StableDiffusionImg2ImgPipeline
StableDiffusionImg2ImgPipeline.from_pretrained({!r}, torch_dtype=torch.bfloat16)
"""
SCRIPT = """
import torch
from diffusers import StableDiffusionImg2ImgPipeline
from PIL import Image
pipe = StableDiffusionImg2ImgPipeline.from_pretrained({model!r}, torch_dtype=torch.bfloat16)
how = dict(strength=1.0, num_inference_steps={steps}, guidance_scale=7.5, generator=torch.Generator().manual_seed(1))
pipe("a cat", Image.open({picture!r}), **how).images[0].save({out!r})
"""


def run(given: argparse.Namespace) -> Iterator[Row]:
    helps = {
        OURS: ["-m", "sdedit_cli", "--help"],
        ORACLE: ["-c", "from diffusers import StableDiffusionImg2ImgPipeline"],
    }
    yield from _rows("answer: --help, import of the pipeline", helps, given, 5, 40)
    for name, words in ANSWERS.items():
        yield from _rows(f"answer: {name}", {OURS: words}, given, 10, 5)
    model, picture = str(given.model), given.place / "in.png"
    side = 64 if given.quick else 256
    photo(side).save(picture)
    ready = {OURS: ["-c", READY.format("sdedit_cli", model)], ORACLE: ["-c", READY.format("diffusers", model)]}
    yield from _rows("ready", ready, given, 3, 30)
    for steps, rounds in ((1, 3), (20, 1)):
        steps = min(steps, 2) if given.quick else steps
        out = str(given.place / "out.png")
        ours = [
            "run",
            str(picture),
            "-m",
            model,
            "-p",
            "a cat",
            "--strength",
            "1",
            "--steps",
            str(steps),
            "-o",
            out,
            "-q",
        ]
        ours += ["--dtype", "bf16", "--device", "cpu", "--seed", "1", "--on-exists", "overwrite", "--sampler", "ddim"]
        theirs = SCRIPT.format(model=model, steps=steps, picture=str(picture), out=out)
        words = {OURS: ["-m", "sdedit_cli", *ours], ORACLE: ["-c", theirs]}
        yield from _rows(f"cold edit, {steps} steps", words, given, rounds, 50)


def _rows(
    what: str, commands: dict[str, list[str]], given: argparse.Namespace, rounds: int, budget: float
) -> Iterator[Row]:
    asks = {name: partial(_process, name, words, given.place) for name, words in commands.items()}
    rounds = 1 if given.quick else given.rounds or rounds
    for name, answers in turns(asks, rounds, budget * given.budget).items():
        yield Row(what, name, values(answers), also=disturbed(answers))


def _process(program: str, words: list[str], place: Path) -> Answer:
    """The wall time of one process. Raises RuntimeError where it fails otherwise than by a usage error."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), **environment(program)}
    env = {name: value for name, value in env.items() if value}
    began = time.perf_counter()
    done = subprocess.run([sys.executable, *words], env=env, cwd=place, capture_output=True, text=True, check=False)
    taken = time.perf_counter() - began
    if done.returncode not in (0, 2):
        raise RuntimeError(done.stderr[-2000:])
    return {"seconds": taken}
