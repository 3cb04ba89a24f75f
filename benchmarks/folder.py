"""A folder of 64 pictures of 64 px, 8 strengths and 8 prompts, with the built-in model, loaded beforehand.

By the reference one by one, by ours one by one, and by ours as a batch (8 at a time), 10 steps, in bf16. Files are read
and written by all. `CPU` is seconds of all cores.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from .common.children import Answer, Server
from .common.programs import ORACLE, environment
from .common.rates import DTYPES
from .common.rows import OURS, Row
from .common.small import BUILT_IN, SIDE, pictures
from .common.turns import disturbed, turns, values

ONE_BY_ONE = "sdedit, one by one"
EIGHT, BUDGET = 8, 80.0
# Path, strength, prompt, seed.
Wanted = list[tuple[Path, float, str, int]]


def options(parser: argparse._ArgumentGroup) -> None:
    parser.add_argument("--steps", type=int, default=10, help="of the schedule (default: 10)")


def run(given: argparse.Namespace) -> Iterator[Row]:
    count, steps = (8, 4) if given.quick else (64, given.steps)
    pictures(given.place / "folder", count)
    for dtype in given.dtype or ["bf16"]:
        with ExitStack() as stack:
            asks: dict[str, Callable[[], Answer]] = {}
            for name in (OURS, ONE_BY_ONE, ORACLE):
                out = given.place / f"out {name} {dtype}"
                words = (name, str(given.place / "folder"), count, steps, dtype, str(out))
                env = environment(ORACLE if name == ORACLE else OURS)
                asks[name] = stack.enter_context(Server("benchmarks.folder:serve", *words, env=env)).ask
            for ask in asks.values():
                ask()  # imports of first use, and pages of the files
            rounds = 1 if given.quick else given.rounds or 3
            for name, answers in turns(asks, rounds, BUDGET * given.budget).items():
                also = {"CPU s": sum(values(answers, "cpu")) / len(answers), "a picture": values(answers)[0] / count}
                also |= disturbed(answers)
                yield Row(f"{count} pictures of {SIDE} px, {dtype}", name, values(answers), "s", also=also)


def serve(program: str, folder: str, count: int, steps: int, dtype: str, out: str) -> Callable[[], Answer]:
    """Answers by editing all pictures; the first time only the first ones."""
    paths = [Path(folder) / f"{number}.png" for number in range(count)]
    wanted = [(path, 0.3 + 0.1 * (n % 8), f"a face, number {n // 8}", n) for n, path in enumerate(paths)]
    Path(out).mkdir()
    if program == ORACLE:
        edit = oracle(steps, dtype, Path(out))
    else:
        edit = partial(ours(steps, dtype, Path(out)), size=EIGHT if program == OURS else None)
    warm = False

    def answer() -> Answer:
        nonlocal warm
        todo, warm = wanted if warm else wanted[:EIGHT], True
        began, cpu = time.perf_counter(), time.process_time()
        edit(todo)
        return {"seconds": time.perf_counter() - began, "cpu": time.process_time() - cpu}

    return answer


def oracle(steps: int, dtype: str, out: Path) -> Callable[[Wanted], None]:
    import torch
    from diffusers import StableDiffusionImg2ImgPipeline
    from PIL import Image

    kind = getattr(torch, DTYPES[dtype])
    pipe = StableDiffusionImg2ImgPipeline.from_pretrained(BUILT_IN, torch_dtype=kind, safety_checker=None)
    pipe.set_progress_bar_config(disable=True)
    how = {"num_inference_steps": steps, "guidance_scale": 4.0}

    def edit(wanted: Wanted) -> None:
        for path, strength, prompt, seed in wanted:
            image, generator = Image.open(path).convert("RGB"), torch.Generator().manual_seed(seed)
            made = pipe(prompt, image=image, strength=strength, generator=generator, **how).images[0]
            made.save(out / path.name)

    return edit


def ours(steps: int, dtype: str, out: Path) -> Callable[..., None]:
    """As the command line does it, with a model that stays loaded."""
    from sdedit_cli.batch.events import Events
    from sdedit_cli.batch.request import Model, Request, RunOptions
    from sdedit_cli.batch.run import Run
    from sdedit_cli.batch.targets import Job, Target
    from sdedit_cli.cli.host import Models
    from sdedit_cli.cli.render import Reporter
    from sdedit_cli.options import Edit

    model, host = Model("built-in", None), Models(_ignore)

    def edit(wanted: Wanted, size: int | None) -> None:
        jobs: list[Job] = []
        for index, (path, strength, prompt, seed) in enumerate(wanted, 1):
            how = {"prompt": prompt, "strength": strength, "seed": seed, "cfg_scale": 4.0, "steps": steps}
            request = Request(Edit(**how, dtype=dtype, device="cpu"), model)
            jobs.append(Job(request, str(path), index, (Target(seed, out / path.name),), "png", size))
        host.load(jobs[0].request, _ignore, lambda _: None)
        Run(jobs[0].request, jobs, RunOptions("overwrite"), host, Reporter(-1), Events()).execute()

    return edit


def _ignore(text: str) -> None:
    del text
