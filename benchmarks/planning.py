"""What `sdedit batch` takes to plan and check ten thousand jobs, of a folder and of a CSV file: seconds of CPU.

From the start of the process to every job with its verdict (`all to be made`), and of a check of outputs that are all
there (`all fresh`), with the modules compiled before, as they are when a program is used a second time. A loop of ten
million additions beside it tells how busy the machine is.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .common.rows import OURS, Row
from .common.small import pictures


def options(parser: argparse._ArgumentGroup) -> None:
    parser.add_argument("--jobs", type=int, default=10_000, help="of planning and soak (default: 10000; soak: 2000)")


def run(given: argparse.Namespace) -> Iterator[Row]:
    jobs, rounds = (20, 1) if given.quick else (given.jobs, given.rounds or 3)
    place = given.place / "planning"
    place.mkdir()
    paths = pictures(place / "in", jobs)
    rows = [f"in/{path.name},a picture {n % 50},0.{5 + n % 4},{n}" for n, path in enumerate(paths)]
    (place / "jobs.csv").write_text("\n".join(["input,prompt,strength,seed", *rows]), encoding="utf-8")
    with inside(place):
        sdedit("batch", "nothing", "--check")  # which compiles the modules
        for source in ("in", "jobs.csv"):
            command = ["batch", source, f"{source}.out", "-p", "a {stem}"]
            name = f"{jobs:,} jobs of a {'folder' if source == 'in' else 'CSV file'}"
            yield Row(f"{name}, all to be made", OURS, tuple(sdedit(*command, "--check") for _ in range(rounds)))
            all_there(Path(f"{source}.out"), command)
            yield Row(f"{name}, all fresh", OURS, tuple(sdedit(*command, "--check") for _ in range(rounds)))
    yield Row("ten million additions", "Python", tuple(additions() for _ in range(rounds)))


@contextmanager
def inside(place: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(place)
    try:
        yield
    finally:
        os.chdir(before)


def sdedit(*words: str) -> float:
    """The seconds of CPU that a command took."""
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(Path.cwd() / "compiled"), "PYTHONDONTWRITEBYTECODE": ""}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "sdedit_cli", *words]
    subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def additions() -> float:
    started, total = time.process_time(), 0
    for number in range(10_000_000):
        total += number
    return time.process_time() - started


def all_there(folder: Path, command: list[str]) -> None:
    """Has the journal say of every output that it was made; it takes the keys from a survey as a batch does."""
    from sdedit_cli.batch.journal import Entry, Journal
    from sdedit_cli.batch.survey import Item
    from sdedit_cli.cli import assignment
    from sdedit_cli.cli.main import run as command_line
    from sdedit_cli.disk.stamps import stamp_of

    surveyed: list[Item] = []
    kept = assignment.survey

    def watched(*given: object) -> list[Item]:
        surveyed[:] = kept(*given)  # type: ignore[arg-type]
        return surveyed

    assignment.survey = watched  # type: ignore[assignment]
    command_line([*command, "--check", "-q"])
    assignment.survey = kept
    sha256 = hashlib.sha256(b"made").hexdigest()
    sync, os.fsync = os.fsync, lambda _: None  # of twenty thousand lines at once
    journal = Journal(folder / ".sdedit" / "journal.jsonl", 0)
    for item in surveyed:
        assert item.target.path is not None
        item.target.path.parent.mkdir(parents=True, exist_ok=True)
        item.target.path.write_bytes(b"made")
        account = item.account
        made = {"key": account.key, "sha256": sha256, "input": account.input, "facts": dict(account.facts)}
        made |= {"input_sha256": account.facts["input"], "input_stamp": account.input_stamp}
        journal.add(Entry("intent", item.output, **made))
        journal.add(Entry("done", item.output, **made, output_stamp=stamp_of(item.target.path)))
    journal.close()
    os.fsync = sync
