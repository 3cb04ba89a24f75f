"""What `sdedit batch` takes: to plan and check ten thousand jobs, in memory over thousands, and a picture.

    python benchmarks/batch.py planning|soak|throughput ... [--jobs N] [--rounds N] [--steps N] [--dtype fp32]

`planning` counts seconds of CPU, of a folder and of a CSV file: from the start of the process to every job with its
verdict, and of a check of outputs that are all there; a loop of ten million additions beside it tells how busy the
machine is. `soak` reads the memory of a batch of the built-in model while it runs. `throughput` edits 64 pictures with
8 strengths and 8 prompts by the reference library one by one, by ours one by one, and by ours 8 at a time, in turns.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

BUILT_IN = Path(__file__).parents[1] / "sdedit_cli" / "assets" / "starter"
SIDE = 64


def pictures(folder: Path, count: int) -> list[Path]:
    """So many small pictures of blobs in a new folder."""
    folder.mkdir()
    draw = np.random.default_rng(0)
    paths = [folder / f"{number}.png" for number in range(count)]
    for path in paths[:64]:
        blobs = Image.fromarray(draw.integers(0, 256, (8, 8, 3), dtype=np.uint8))
        blobs.resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(path)
    for number, path in enumerate(paths[64:]):
        path.write_bytes(paths[number % 64].read_bytes())
    return paths


def sdedit(*words: str) -> float:
    """The seconds of CPU that a command took."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "sdedit_cli", *words]
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def additions() -> float:
    started, total = time.process_time(), 0
    for number in range(10_000_000):
        total += number
    return time.process_time() - started


def all_there(folder: Path, paths: list[Path], command: list[str]) -> None:
    """Has the journal say of every output that it was made; it takes the keys from a survey as a batch does."""
    from sdedit_cli.batch.journal import Entry, Journal, stamp_of
    from sdedit_cli.batch.survey import Item
    from sdedit_cli.cli import assignment

    surveyed: list[Item] = []
    kept = assignment.survey

    def watched(*given: object) -> list[Item]:
        surveyed[:] = kept(*given)  # type: ignore[arg-type]
        return surveyed

    assignment.survey = watched  # type: ignore[assignment]
    from sdedit_cli.cli.main import run

    run([*command, "--check", "-q"])
    assignment.survey = kept
    sha256 = hashlib.sha256(b"made").hexdigest()
    sync, os.fsync = os.fsync, lambda _: None  # of twenty thousand lines at once
    journal = Journal(folder / ".sdedit" / "journal.jsonl", 0)
    for item in surveyed:
        assert item.target.path is not None
        item.target.path.parent.mkdir(parents=True, exist_ok=True)
        item.target.path.write_bytes(b"made")
        account = item.account
        made = {"key": account.key, "sha256": sha256, "input": account.input, "facts": account.facts}
        made |= {"input_sha256": account.facts["input"], "input_stamp": account.input_stamp}
        journal.add(Entry("intent", item.output, **made))
        journal.add(Entry("done", item.output, **made, output_stamp=stamp_of(item.target.path)))
    journal.close()
    os.fsync = sync


def planning(place: Path, jobs: int, rounds: int) -> None:
    paths = pictures(place / "in", jobs)
    rows = [f"in/{path.name},a picture {n % 50},0.{5 + n % 4},{n}" for n, path in enumerate(paths)]
    (place / "jobs.csv").write_text("\n".join(["input,prompt,strength,seed", *rows]), encoding="utf-8")
    print(f"\n{jobs:,} jobs; seconds of CPU, medians of {rounds} rounds\n")
    print("| source | all to be made | all fresh | ten million additions |\n|---|---|---|---|")
    for source in ("in", "jobs.csv"):
        command = ["batch", source, f"{source}.out", "-p", "a {stem}"]
        stale = [sdedit(*command, "--check") for _ in range(rounds)]
        all_there(Path(f"{source}.out"), paths, command)
        fresh = [sdedit(*command, "--check") for _ in range(rounds)]
        plain = statistics.median(additions() for _ in range(rounds))
        print(
            f"| {source} | {statistics.median(stale):.2f} | {statistics.median(fresh):.2f} | {plain:.2f} |", flush=True
        )


def soak(place: Path, jobs: int, dtype: str) -> None:
    pictures(place / "in", jobs)
    command = ["batch", "in", "out", "-p", "a face", "--steps", "1", "--strength", "1", "--cfg-scale", "1"]
    command += ["--dtype", dtype, "--device", "cpu", "--json", "-q", "--seed-mode", "index"]
    process = subprocess.Popen([sys.executable, "-m", "sdedit_cli", *command], stdout=subprocess.PIPE)
    assert process.stdout is not None
    done, first = 0, 0.0
    print(f"\n{jobs:,} jobs of the built-in model in {dtype}\n")
    print("| pictures | MB in memory | of those at 100 |\n|---|---|---|")
    for line in process.stdout:
        if json.loads(line)["event"] != "saved":
            continue
        done += 1
        if done == 100 or done % max(100, jobs // 10) == 0:
            status = Path(f"/proc/{process.pid}/status").read_text()
            rss = int(next(one for one in status.splitlines() if one.startswith("VmRSS")).split()[1]) / 1e3
            first = first or rss
            print(f"| {done} | {rss:.1f} | {rss / first:.4f} |", flush=True)
    process.wait()


def throughput(place: Path, count: int, rounds: int, steps: int, dtype: str) -> None:
    paths = pictures(place / "in", count)
    wanted = [(path, 0.3 + 0.1 * (n % 8), f"a face, number {n // 8}", n) for n, path in enumerate(paths)]
    ways = {
        "the reference, one by one": oracle(wanted, steps, dtype, place / "oracle"),
        "sdedit, one by one": ours(wanted, steps, dtype, None, place / "one"),
        "sdedit, 8 at a time": ours(wanted, steps, dtype, 8, place / "eight"),
    }
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for name, way in ways.items():
        next(way)  # loads
        print(f"{name}: loaded", file=sys.stderr, flush=True)
    for _ in range(rounds):
        for name, way in ways.items():
            started = time.monotonic(), time.process_time()
            next(way)
            taken[name].append((time.monotonic() - started[0], time.process_time() - started[1]))
            print(name, taken[name][-1], file=sys.stderr, flush=True)
    print(f"\n{count} pictures of {SIDE} px, {steps} steps, {dtype}, medians of {rounds} rounds in turns\n")
    print("| way | seconds | of 8 at a time | seconds of CPU | of 8 at a time |\n|---|---|---|---|---|")
    wall, cpu = zip(*taken["sdedit, 8 at a time"], strict=True)
    for name, pairs in taken.items():
        cells = [
            f"{statistics.median(mine):.1f} | {statistics.median(map(_ratio, mine, theirs)):.2f}"
            for mine, theirs in zip(zip(*pairs, strict=True), (wall, cpu), strict=True)
        ]
        print(f"| {name} | {' | '.join(cells)} |")


def _ratio(one: float, other: float) -> float:
    return one / other


Wanted = list[tuple[Path, float, str, int]]


def oracle(wanted: Wanted, steps: int, dtype: str, folder: Path) -> Iterator[None]:
    import torch
    from diffusers import StableDiffusionImg2ImgPipeline

    kind = {"fp32": torch.float32, "bf16": torch.bfloat16}[dtype]
    pipe = StableDiffusionImg2ImgPipeline.from_pretrained(BUILT_IN, torch_dtype=kind, safety_checker=None)
    pipe.set_progress_bar_config(disable=True)
    folder.mkdir()
    yield
    while True:
        for path, strength, prompt, seed in wanted:
            (made,) = pipe(
                prompt,
                image=Image.open(path).convert("RGB"),
                strength=strength,
                num_inference_steps=steps,
                guidance_scale=4.0,
                generator=torch.Generator().manual_seed(seed),
            ).images
            made.save(folder / path.name)
        yield


def ours(wanted: Wanted, steps: int, dtype: str, size: int | None, folder: Path) -> Iterator[None]:
    from sdedit_cli.batch.events import Events
    from sdedit_cli.batch.request import Model, Request, RunOptions
    from sdedit_cli.batch.run import Run
    from sdedit_cli.batch.targets import Job, Target
    from sdedit_cli.cli.host import Models
    from sdedit_cli.cli.render import Reporter
    from sdedit_cli.options import Edit

    model, ignore = Model("built-in", None), _ignore
    jobs: list[Job] = []
    for index, (path, strength, prompt, seed) in enumerate(wanted, 1):
        edit = Edit(prompt=prompt, strength=strength, steps=steps, seed=seed, cfg_scale=4.0, dtype=dtype, device="cpu")
        target = Target(seed, folder / path.name)
        jobs.append(Job(Request(edit, model), str(path), index, (target,), "png", size))
    host = Models(ignore)
    host.load(jobs[0].request, ignore, lambda _: None)
    yield
    while True:
        Run(jobs[0].request, jobs, RunOptions("overwrite"), host, Reporter(-1), Events()).execute()
        yield


def _ignore(text: str) -> None:
    del text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="+", choices=["planning", "soak", "throughput"])
    parser.add_argument("--jobs", type=int)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--dtype", choices=["fp32", "bf16"], default="fp32")
    given = parser.parse_args()
    todo: dict[str, Callable[[Path], None]] = {
        "planning": lambda place: planning(place, given.jobs or 10_000, given.rounds),
        "soak": lambda place: soak(place, given.jobs or 2000, given.dtype),
        "throughput": lambda place: throughput(place, given.jobs or 64, given.rounds, given.steps, given.dtype),
    }
    for what in given.what:
        with tempfile.TemporaryDirectory() as name:
            os.chdir(name)
            todo[what](Path(name))
            os.chdir("/")


if __name__ == "__main__":
    main()
