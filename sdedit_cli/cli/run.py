"""sdedit run: edit pictures under a prompt."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from ..errors import UsageError
from ..options.masks import check_masked
from ..pictures.endings import FORMATS
from .channels import channels, reporting_options
from .flags import FILES, REPORTING, GroupedCommand, edit_options, option
from .paths import FileName, FilePath
from .preset_options import preset_options, save_preset
from .previews import animations, preview_options, previewing
from .seeds import new_seed
from .sweep.options import Wanted, refuse_strays, sweep_options

if TYPE_CHECKING:
    from ..batch.events import Events
    from ..batch.request import Request
    from ..batch.targets import Job
    from .render import Reporter

_EXAMPLES = """\b
Examples:
  sdedit run photo.jpg -p "a watercolour of a harbour" --strength 0.6
  sdedit run 'drawings/*.png' -p "a 3d emoji of a house" -o out/ --seed 7
  sdedit run photo.jpg --like earlier.edited.png --count 4
  sdedit run photo.jpg -p "ink" --sweep strength=0.4,0.6,0.8 --sweep seed=1,2
  cat photo.jpg | sdedit run - -p "oil painting" -o - > edited.png"""


@click.command(cls=GroupedCommand, epilog=_EXAMPLES)
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...", type=FileName())
@edit_options()
@preset_options
@option(
    "-o",
    "--output",
    type=FileName(),
    metavar="OUT",
    group=FILES,
    help="File, folder (ending in '/'), template such as '{stem}-{seed}.png', or - for stdout."
    "  [default: INPUT.edited.png]",
)
@option(
    "--format",
    "format",
    type=click.Choice(list(FORMATS)),
    group=FILES,
    help="Picture format.  [default: by the ending of OUT, else png]",
)
@option(
    "--on-exists",
    type=click.Choice(["fail", "skip", "overwrite", "suffix"]),
    default="fail",
    group=FILES,
    help="What to do when the output exists.  [default: fail]",
)
@option(
    "--save-every",
    type=click.IntRange(1),
    metavar="N",
    group=FILES,
    help="Save the picture as it is after every N steps.",
)
@option(
    "--steps-dir",
    type=FilePath(path_type=Path, file_okay=False, readable=False),
    metavar="DIR",
    group=FILES,
    help="Folder for the pictures of --save-every.  [default: beside the output]",
)
@preview_options
@option(
    "--dry-run",
    is_flag=True,
    group=REPORTING,
    help="Say what would be done, and check what can be without loading weights: inputs and outputs; that model, VAE"
    " and config are there, and adapters fit; sampler, schedule, device, attention and CLIP skip where they are given.",
)
@sweep_options
@reporting_options
def command(inputs: tuple[str, ...], as_json: bool, quiet: bool, verbose: bool, debug: bool, **given: Any) -> None:
    """Edit each INPUT (a picture, a glob pattern, or - for stdin) under a prompt.

    The picture is noised up to --strength of the way and denoised under the prompt. The result has the input's size,
    transparency and colour profile, and carries its settings: --like replays them.
    """
    to_stdout = given["output"] == "-"
    if as_json and to_stdout:
        raise UsageError("--json and -o - both want stdout; write the picture to a file")
    with channels(as_json=as_json, to_stdout=to_stdout, quiet=quiet, verbose=verbose, debug=debug) as told:
        _carry_out(inputs, given, *told)


def _carry_out(
    inputs: Sequence[str], given: Mapping[str, Any], to: Reporter, events: Events, stdout: BinaryIO | None
) -> None:
    """Edits the inputs, sweeps over them or saves a preset, as the options say. Raises UsageError for those that do not
    go together."""
    from .layering import layering

    if given["save_every"] is None and given["steps_dir"] is not None:
        raise UsageError("--steps-dir is for the pictures of --save-every N; give that too")
    if given["output"] == "-" and sys.__stdout__ is not None and stdout is not None and os.isatty(stdout.fileno()):
        raise UsageError("-o - would write a picture to this terminal; redirect it, or name a file")
    swept = Wanted.of(given)
    of_one = {"--save-every": given["save_every"], "--animate": given["animate"]}
    refuse_strays(swept, [flag for flag, value in of_one.items() if value])
    layers = layering(given, given["presets"], given["like"])
    if given["save_preset"] is not None:
        save_preset(given, layers, to)
    elif swept.texts:
        from .sweep.work import carry_out

        carry_out(inputs, swept, layers, given, to, events, lambda: _previewing(given, to))
    else:
        _edit(inputs, layers.request(), given, to, events, stdout)


def _edit(
    inputs: Sequence[str],
    request: Request,
    given: Mapping[str, Any],
    to: Reporter,
    events: Events,
    stdout: BinaryIO | None,
) -> None:
    check_masked(given, request.edit.mask is not None)
    if given["same_noise"] and len(request.edit.rounds()) == 1:
        raise UsageError("--same-noise is for the rounds of --repeats K; give that too")
    if given["save_every"] and request.edit.safety == "block":
        raise UsageError("--save-every writes pictures that --safety block has not judged yet; leave one of them out")
    # After what is refused most often, so that a typing error is told at once.
    from ..batch.request import RunOptions
    from ..batch.run import Run
    from ..batch.targets import plan, refuse_replaced
    from ..batch.telling import warn
    from ..pictures.codec import pixel_limit
    from .host import Models
    from .inputs import sources_of
    from .words import unused_words

    dry_run, drawn = given["dry_run"], request.edit.seed is None
    sources = sources_of(inputs, request.edit.prompt, given["output"], to)
    for word in unused_words(request.edit):
        text = f"the word '{word}' stands in no prompt, so its embedding does nothing; write it into -p or -n"
        warn(text, to, events)
    request = _replayed(request, sources, given)
    seeds = request.edit.seeds()
    shown_seeds = [Undrawn(seed) for seed in seeds] if drawn and dry_run else seeds
    jobs = plan(request, sources, shown_seeds, given["output"], given["format"])
    if given["on_exists"] == "overwrite":
        refuse_replaced(jobs, f"-o {given['output'] or ''}".strip())
    if given["quality"] is not None and all(job.format in ("png", "gif") for job in jobs):
        raise UsageError("--quality is for JPEG, WebP and AVIF, and this run writes none; see -o and --format")
    options = RunOptions(
        given["on_exists"],
        given["save_every"],
        _steps_folder(jobs, given, to),
        dry_run,
        pixel_limit(os.environ),
        drawn,
        preview=not dry_run and _previewing(given, to),
        animating=animations(jobs, given["animate"], given["on_exists"], full=given["animate_full"]),
    )
    Run(request, jobs, options, Models(to.note, complete=dry_run), to, events, stdout).execute()


def _replayed(request: Request, sources: Sequence[str], given: Mapping[str, Any]) -> Request:
    """The request with a seed, unless nothing is made, and with what `--like` means for these sources."""
    from .replay import beyond, of_another_input

    if request.edit.seed is None and not given["dry_run"]:
        request = request.asking(replace(request.edit, seed=new_seed()))
    if given["seed"] is None and not os.environ.get("SDEDIT_SEED"):
        request = beyond(request, sources)
    return replace(request, notes=(*request.notes, *of_another_input(request.like, sources)))


def _previewing(given: Mapping[str, Any], to: Reporter) -> bool:
    return previewing(to, given["preview"], given["preview_as"])


def _steps_folder(jobs: Sequence[Job], given: Mapping[str, Any], to: Reporter) -> Path | None:
    """Where the pictures of --save-every go: beside the output where nobody says, which `to` is told.

    Raises UsageError where the output is stdout.
    """
    if given["save_every"] is None or given["steps_dir"] is not None:
        return given["steps_dir"]
    first = jobs[0].targets[0].path
    if first is None:
        raise UsageError(
            "--save-every: the picture goes to stdout, so say where those of its steps go: --steps-dir DIR"
        )
    folder = first.with_suffix(".steps") if len(jobs) == 1 else first.parent / "steps"
    to.note(f"the pictures of the steps go to {folder}{os.sep}")
    return folder


class Undrawn(int):
    """A seed of a run that will draw its own: it fills a template with a word, as nobody knows it yet."""

    def __format__(self, spec: str) -> str:
        return f"{{seed+{int(self)}}}" if self else "{seed}"
