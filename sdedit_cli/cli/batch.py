"""sdedit batch: edit a folder or a list of pictures; what is done and unchanged is not done again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ..errors import StaleOutputs
from ..pictures.endings import FORMATS
from .channels import channels, reporting_options
from .flags import FILES, REPORTING, GroupedCommand, edit_options, option
from .paths import FileName, ParamType
from .preset_options import preset_options, save_preset

if TYPE_CHECKING:
    from .assignment import Assignment

SOURCE, WORK = "Source", "Work"
ENGINES = ["local", "ray"]
_EXAMPLES = """\b
Examples:
  sdedit batch sprites/ out/ -p "pixel art of a {stem}" --strength 0.5
  sdedit batch jobs.csv out/ --seed-mode name
  sdedit batch sprites/ out/ -p "..." --check        (exit code 6 when outputs are stale)
  producer | sdedit batch - out/ --json              (a job a line, answered by events)"""


class Shard(ParamType):
    """'i/n': the i-th of n parts."""

    name = "shard"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        part, slash, parts = str(value).partition("/")
        known = slash and part.isascii() and parts.isascii() and part.isdecimal() and parts.isdecimal()
        if not known or len(parts) > 4 or not 1 <= int(part) <= int(parts):
            self.fail(f"'{value}' is no part of a whole; expected I/N, such as 1/4", param, ctx)
        return int(part), int(parts)


class BatchSize(ParamType):
    """A number of pictures, or 'auto'."""

    name = "batch size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | None:
        if value is None or isinstance(value, int):
            return value
        if value == "auto":
            return None
        if not (str(value).isascii() and str(value).isdecimal() and len(value) <= 3 and int(value) > 0):
            self.fail(f"'{value}' is no number of pictures; expected 1 to 999, or auto", param, ctx)
        return int(value)


@click.command(cls=GroupedCommand, epilog=_EXAMPLES)
@click.argument("source", metavar="SOURCE", type=FileName())
@click.argument("dest", metavar="[DEST]", required=False, type=FileName())
@edit_options(seed="0")
@preset_options
@option("--recursive", is_flag=True, group=SOURCE, help="Look into the folders below SOURCE too.")
@option("--include", multiple=True, metavar="PATTERN", group=SOURCE, help="Take only names like it, such as 'ui/*'.")
@option("--exclude", multiple=True, metavar="PATTERN", group=SOURCE, help="Leave out names like it.")
@option(
    "--prompt-from",
    type=click.Choice(["text", "metadata"]),
    group=SOURCE,
    help="Take each prompt from the .txt beside the picture, or from the settings in it; --prompt is for the others."
    "  [default: the .txt, where no prompt is given]",
)
@option("--prompt-prefix", default="", metavar="TEXT", group=SOURCE, help="Put this before every prompt.")
@option("--prompt-suffix", default="", metavar="TEXT", group=SOURCE, help="Put this behind every prompt.")
@option(
    "--seed-mode",
    type=click.Choice(["same", "index", "name"]),
    default="same",
    group=SOURCE,
    help="One seed for all, one more for each, or one that follows from the name.  [default: same]",
)
@option(
    "--mask-dir",
    type=FileName(),
    metavar="DIR",
    group=SOURCE,
    help="Folder with a mask for each picture, of the same name before the ending; see --mask.",
)
@option("--check", is_flag=True, group=WORK, help="Only say which outputs are stale, and why; exit code 6 if any is.")
@option(
    "--strict-env", is_flag=True, group=WORK, help="Count outputs of another torch, backend or batch size as stale too."
)
@option("--force", is_flag=True, group=WORK, help="Make everything anew.")
@option("--retry-failed", is_flag=True, group=WORK, help="Take on only what failed.")
@option("--fail-fast", is_flag=True, group=WORK, help="End at the first failure.")
@option("--limit", type=click.IntRange(1), metavar="N", group=WORK, help="Make at most N pictures.")
@option("--shard", type=Shard(), metavar="I/N", group=WORK, help="Take the I-th of N parts of the jobs.")
@option("--prune", is_flag=True, group=WORK, help="Remove outputs that no job makes any more.")
@option("--wait", is_flag=True, group=WORK, help="Wait for another sdedit that works on DEST.")
@option(
    "--batch-size",
    type=BatchSize(),
    default="auto",
    metavar="N|auto",
    group=WORK,
    help="How many pictures the model takes at a time.  [default: auto]",
)
@option(
    "--engine",
    type=click.Choice(ENGINES),
    default="local",
    group=WORK,
    help="Edit in this process, or on the machines of a Ray cluster.  [default: local]",
)
@option(
    "--address",
    metavar="ADDRESS",
    group=WORK,
    help="The Ray cluster to join: auto, HOST:PORT or ray://HOST:PORT.  [default: one that is started here]",
)
@option(
    "--workers",
    type=click.IntRange(1),
    metavar="N",
    group=WORK,
    help="How many workers edit on the cluster.  [default: one for each GPU, or each machine without any]",
)
@option(
    "--format",
    "format",
    type=click.Choice(list(FORMATS)),
    group=FILES,
    help="Picture format.  [default: by the ending of DEST, else png]",
)
@option(
    "--on-exists",
    type=click.Choice(["fail", "overwrite"]),
    default="fail",
    group=FILES,
    help="What to do with an output that this batch did not write, or that was edited since.  [default: fail]",
)
@option("--dry-run", is_flag=True, group=REPORTING, help="Say what would be done, and why.")
@option(
    "--report",
    multiple=True,
    type=FileName(),
    metavar="FILE",
    group=REPORTING,
    help="Write what became of every output: a page with pictures (.html), or JUnit (.xml).",
)
@reporting_options
def command(
    source: str, dest: str | None, as_json: bool, quiet: bool, verbose: bool, debug: bool, **given: Any
) -> None:
    """Edit every picture that SOURCE names (a folder, a pattern, a .csv, .jsonl or .toml list, or - for jobs on stdin).

    Outputs go to DEST, a folder or a template such as 'out/{parent}/{stem}-{seed}.png'. What is done is kept in
    DEST/.sdedit: another run makes only what is missing, changed or failed.
    """
    with channels(as_json=as_json, quiet=quiet, verbose=verbose, debug=debug) as (to, events, _):
        if given["save_preset"] is not None:
            from .layering import layering

            save_preset(given, layering(given, given["presets"], given["like"]), to)
            return
        if source == "-":
            from .co_process import serve

            serve(dest, given, to, events)
            return
        from .assignment import Assignment

        work = Assignment.of(source, dest, given, to, events)
        if given["check"]:
            _check(work)
        else:
            work.carry_out()


def _check(work: Assignment) -> None:
    """Says which outputs are stale. Raises StaleOutputs if any is."""
    stale = work.stale()
    if stale:
        raise StaleOutputs(f"{stale} of {work.total} outputs are stale; run the same command without --check")
    work.to.note(f"all {work.total} outputs are fresh")
