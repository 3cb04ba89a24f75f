"""Measures the topics that are named, or those of `make bench`; README.md beside this file lists them.

    python -m benchmarks [NAME ...] [--save [FILE.json]] [options]

Programs take turns in one run; a table appears as a topic is done. `--save` keeps the rows in a file of results and
writes it as Markdown too: those of topics that were not named stay.
"""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from .common import machine, others, rates
from .common.models import settled
from .common.programs import present
from .common.quote import put
from .common.report import RATES, Section, read, table, write
from .common.rows import Row
from .topics import TOPICS

PLACES = ("--model", "--save", "--quote", "--sheet", "--keep", "--env")
RESULTS = Path(__file__).parent / "results"


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(TOPICS)}")
    parser.add_argument("--quote", type=Path, metavar="FILE.json", help="measure nothing; put its table into README.md")
    parser.add_argument(
        "--save", nargs="?", type=Path, const=True, metavar="FILE.json", help="by default this machine's"
    )
    parser.add_argument(
        "--model", type=Path, metavar="FOLDER", help="of SD 1.5's shape; random weights if it's not there"
    )
    parser.add_argument(
        "--programs", nargs="+", metavar="PROGRAM", help="of those compared (default: all that are there)"
    )
    parser.add_argument("--dtype", nargs="+", choices=["fp32", "bf16"], help="default: what the topic says")
    parser.add_argument("--rounds", type=int, help="default: what the topic says")
    parser.add_argument("--budget", type=float, default=1.0, metavar="X", help="X times the seconds a topic may take")
    parser.add_argument(
        "--patience", type=float, default=0.0, metavar="S", help="wait so many seconds in all for cores that others use"
    )
    parser.add_argument("--sheet", type=Path, metavar="FILE", help="colour, seams: write the pictures")
    parser.add_argument("--quick", action="store_true", help="tiny models and one round: whether it works, no numbers")
    for module in {topic.module.__name__: topic.module for topic in TOPICS.values()}.values():
        if hasattr(module, "options"):
            module.options(parser.add_argument_group(module.__name__.rpartition(".")[2]))
    return parser


def main(words: Sequence[str] | None = None) -> None:
    parser = arguments()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    given = parser.parse_args(words)
    if given.quote:
        put(RESULTS.parents[1] / "README.md", read(given.quote))
        return
    unknown = [name for name in given.names if name not in TOPICS]
    if unknown:
        parser.error(f"there is no topic {unknown[0]}; there are {', '.join(TOPICS)}")
    if given.save is True:
        given.save = RESULTS / f"{machine.slug()}.json"
    others.patience.left = given.patience
    given.programs = given.programs or present()
    said = command(sys.argv[1:] if words is None else words)
    sections = read(given.save) if given.save else {}
    with tempfile.TemporaryDirectory() as place:
        given.place = Path(place)
        given.model = settled(given.model or given.place / "model", "bf16", given.quick)
        for section in measured(given, said):
            if section.rows:
                sections[section.topic] = section
            if given.save:
                write(sections, given.save)


def command(words: Sequence[str]) -> str:
    """What was asked for, without where things lie: that is no matter of the numbers, and of this machine alone."""
    kept, skip = ["python", "-m", "benchmarks"], False
    for word in words:
        if not skip and word not in PLACES:
            kept.append(word)
        skip = word in PLACES and word != "--save"
    return shlex.join(word for word in kept if not word.endswith(".json"))


def measured(given: argparse.Namespace, said: str) -> Iterator[Section]:
    """A section for the machine's rates, and one for each topic, as they are done; an interruption ends the last."""
    facts, how = machine.machine(), {"seconds": 0.002, "shrink": 8} if given.quick else {}

    def section(name: str, about: str, rows: Iterable[Row], limits: dict[str, float]) -> Section:
        load, began, share = machine.load_average(), time.monotonic(), others.watched()
        told: list[Row] = []
        try:
            told.extend(rows)
        except KeyboardInterrupt:
            stopped.append(name)
        seconds = time.monotonic() - began
        return shown(Section(name, about, told, said, load, seconds, share(), limits or rates.limits(told), facts))

    stopped: list[str] = []
    yield (first := section(RATES, (rates.__doc__ or "").strip(), rates.rates(**how), {}))
    for name in given.names or [topic.name for topic in TOPICS.values() if topic.always]:
        yield section(name, TOPICS[name].about, TOPICS[name].run(given), first.limits)
        if stopped:
            sys.exit(f"{name} was interrupted; works that were done by then are kept")


def shown(section: Section) -> Section:
    print(f"\n{section.topic}: {section.seconds:.0f} s\n\n{table(section.rows, section.limits)}", flush=True)
    return section


if __name__ == "__main__":
    main()
