"""`sdedit lora merge`: adapters into a checkpoint, or several into one."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ...errors import UsageError
from ..file_commands import DEBUG, PATH
from ..flags import options
from ..render import plain
from .lost import SCHEMA
from .options import AS_JSON, CONFIG, DTYPE, MODEL, PARTIAL, VERBOSE, check_name, keep_of, lora_files, precision

if TYPE_CHECKING:
    from ...adapters.lora import Adapter
    from ...options.adapters import LoraFile
    from ...weights.checkpoint import Checkpoint
    from ...weights.write.convert import Summary

_LAYOUTS, _DIALECTS = ("diffusers", "ldm"), ("kohya", "diffusers", "peft")


@click.command("merge", short_help="Merge LoRAs into a checkpoint, or several into one.")
@click.argument("paths", nargs=-1, metavar="[BASE] DST", type=PATH)
@click.option(
    "--lora",
    "texts",
    multiple=True,
    required=True,
    metavar="PATH[:S[:TE]]",
    help="An adapter, its strength, and that of the text encoder where it is another; several times.",
)
@click.option(
    "--to",
    type=click.Choice(["diffusers", "ldm", "kohya", "peft"]),
    help="Of a checkpoint the layout, diffusers or ldm, by default as DST is named; of a LoRA the names: kohya "
    "(default), diffusers, peft.",
)
@DTYPE
@click.option(
    "--rank", type=click.IntRange(1), metavar="N", help="Bring the sum of several LoRAs to this rank of each module."
)
@CONFIG
@click.option(
    "--prediction-type", metavar="KIND", help="What the UNet predicts where BASE does not say: epsilon, v_prediction."
)
@options(MODEL, PARTIAL, AS_JSON, VERBOSE, DEBUG)
def merge(
    paths: tuple[Path, ...],
    texts: tuple[str, ...],
    to: Any,
    dtype: str | None,
    rank: int | None,
    config: Path | None,
    prediction_type: str | None,
    model: str | None,
    partial: bool,
    as_json: bool,
    verbose: bool,
) -> None:
    """Add adapters to the checkpoint BASE and write it as DST, or, without BASE, write them as one LoRA DST.

    BASE is anything that 'sdedit convert' reads: a single file or a model folder. Runs with DST give what runs of BASE
    with the adapters at these strengths would. Strengths are 1 where none are given.

    \b
    sdedit lora merge base.safetensors new.safetensors --lora style.safetensors:0.8
    sdedit lora merge both.safetensors --lora one.safetensors --lora two.safetensors:0.5

    Without BASE the factors of LoRAs are put side by side, which is exact and makes ranks that are sums. --rank N
    brings them to one rank, and kinds that are no LoRA, such as LoHa, with them. Kinds whose change depends on the
    model's weights, such as DoRA, go into a checkpoint alone. DST must not exist.
    """
    if not 1 <= len(paths) <= 2:
        raise UsageError(f"{len(paths)} paths are given; expected BASE DST, or DST alone to merge LoRAs into one")
    files = lora_files(texts)
    if len(paths) == 2:
        _check_choice(to, _LAYOUTS, "a checkpoint")
        if rank is not None or model is not None:
            raise UsageError("--rank and --model are for merging LoRAs into one; leave them out, or leave BASE out")
        told = {"config": config, "prediction_type": prediction_type}
        _into_checkpoint(*paths, files, to, dtype, told, partial=partial, as_json=as_json)
        return
    if config is not None or prediction_type is not None:
        raise UsageError("--config and --prediction-type tell of a checkpoint; leave them out, or give BASE DST")
    _check_choice(to, _DIALECTS, "a LoRA")
    _into_one(paths[0], files, to or "kohya", dtype, rank, model, partial=partial, as_json=as_json, verbose=verbose)


def _check_choice(to: str | None, known: tuple[str, ...], what: str) -> None:
    if to is not None and to not in known:
        raise UsageError(f"--to {to} is nothing that {what} can be written as; expected one of {', '.join(known)}")


def _into_checkpoint(
    base: Path,
    target: Path,
    files: list[LoraFile],
    to: Any,
    dtype: str | None,
    told: Mapping[str, Any],
    *,
    partial: bool,
    as_json: bool,
) -> None:
    """`told` is what was said of the base, as `convert` takes it."""
    from ...signals import settle
    from ...weights.write.convert import convert
    from ..convert import report
    from ..progress import byte_bar, watched
    from .architectures import checkpoint_at
    from .files import begin

    base = checkpoint_at(base)
    begin(base, *(Path(file.path) for file in files), target=target)
    taken: list[Adapter] = []
    with byte_bar(base.name) as bar:
        summary = convert(
            base,
            target,
            to=to,
            dtype=precision(dtype),
            progress=watched(bar),
            placed=settle,
            change=lambda checkpoint: _merged(checkpoint, files, dtype, taken, partial=partial),
            **told,
        )
    for line in report(summary):
        click.echo(plain(line), err=True)
    if as_json:
        click.echo(json.dumps(_facts(summary, taken)))


def _facts(summary: Summary, taken: Sequence[Adapter]) -> dict[str, object]:
    """What was written and of which adapters, for programs."""
    adapters = [
        {"file": str(one.path), "kinds": list(one.kinds), "keys": one.keys, "modules": len(one.patches)}
        for one in taken
    ]
    written = {name: getattr(summary, name) for name in ("layout", "dtypes", "tensors", "parameters", "bytes", "files")}
    return {"schema": SCHEMA, "file": str(summary.target), **written, "dropped": summary.dropped, "adapters": adapters}


def _merged(
    checkpoint: Checkpoint, files: list[LoraFile], dtype: str | None, taken: list[Adapter], *, partial: bool
) -> Checkpoint:
    """The checkpoint with its adapters, which go to `taken` too."""
    from ...adapters.merge import changed_parameters
    from ...errors import ModelError
    from ...weights.checkpoint.changed import with_changes
    from .architectures import architecture_in
    from .files import active

    if not checkpoint.family.runs and checkpoint.tells_family:
        raise ModelError(f"{checkpoint.path}: is {checkpoint.family.title}; only 1.x and 2.x take adapters so far")
    wanted = active(files, architecture_in(checkpoint), named=True, partial=partial)
    for adapter in wanted.adapters.values():
        click.echo(plain(adapter.summary()), err=True)
        taken.append(adapter)
    made: dict[Any, Any] = dict(changed_parameters(wanted))
    return with_changes(checkpoint, made, precision(dtype))


def _into_one(
    target: Path,
    files: list[LoraFile],
    to: Any,
    dtype: str | None,
    rank: int | None,
    model: str | None,
    *,
    partial: bool,
    as_json: bool,
    verbose: bool,
) -> None:
    from .architectures import known_architecture
    from .files import active, begin
    from .reduce import combine_and_save

    check_name(target, to)
    sources = [Path(file.path) for file in files]
    begin(*sources, target=target)
    known = [known_architecture(path, model) for path in sources]
    titles = list(dict.fromkeys(one.title for one in known))
    if len(titles) > 1:
        raise UsageError(f"the LoRAs are for different models ({', '.join(titles)}); merge those of one")
    wanted = active(files, known[0], named=model is not None, partial=partial)
    keep = keep_of(rank, None) if rank else None
    combine_and_save(wanted, keep, known[0], target, to, precision(dtype), as_json=as_json, verbose=verbose)
