"""`sdedit convert`: checkpoints between LDM's single file and the diffusers folder, and between precisions."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..disk.sizes import parse_size, size_text
from ..errors import shown
from ..options import field_named
from ..signals import check, settle
from .file_commands import DEBUG, PATH, check_source, clear_beside
from .flags import Value
from .progress import byte_bar, watched
from .render import plain

if TYPE_CHECKING:
    from ..weights.write.convert import Summary


@click.command("convert", short_help="Convert a checkpoint between layouts and precisions.")
@click.argument("src", type=PATH)
@click.argument("dst", type=PATH)
@click.option("--to", type=click.Choice(["diffusers", "ldm"]), help="Layout; by default 'ldm' for DST.safetensors.")
@click.option("--dtype", type=click.Choice(["fp16", "bf16", "fp32"]), help="Precision; by default as in SRC.")
@click.option("--ema/--no-ema", default=None, help="Take the averaged copy of the UNet as the UNet, or drop it.")
@click.option(
    "--only", type=click.Choice(["unet", "vae", "text_encoder", "text_encoder_2"]), help="Convert one component."
)
@click.option("--max-shard-size", metavar="SIZE", help="Split larger files of a folder.  [default: 10GB]")
@click.option(
    "--config",
    type=PATH,
    metavar="FOLDER",
    help="Model folder with the configs of SRC.",
)
@click.option(
    "--prediction-type", metavar="KIND", help="What the UNet predicts where SRC does not say: epsilon, v_prediction."
)
@click.option(
    "--variant",
    type=Value(field_named("variant", "")),
    metavar="NAME",
    help="Which weights of a model folder to take, such as fp16.",
)
@click.option(
    "--mmap/--no-mmap", default=True, help="Map SRC, or read it into memory first: for storage that comes and goes."
)
@DEBUG
def command(
    src: Path,
    dst: Path,
    to: Any,
    dtype: str | None,
    ema: bool | None,
    only: Any,
    max_shard_size: str | None,
    config: Path | None,
    prediction_type: str | None,
    variant: str | None,
    mmap: bool,
) -> None:
    """Write the checkpoint SRC as DST.

    SRC is a .safetensors, .ckpt, .pt or .bin file, or a model folder (PyTorch or Flax). DST is a single file if its
    name ends in .safetensors, else a folder in diffusers layout. It must not exist, and appears when all of it was
    written, read back and found equal. Nothing in SRC is executed.
    """
    check()
    for path in (src, *([config] if config else [])):
        check_source(path)
    clear_beside(dst)
    with byte_bar(src.name) as bar:
        from ..weights.formats.mapped_file import reading
        from ..weights.formats.precisions import PRECISIONS
        from ..weights.write.convert import convert

        with reading(whole=not mmap):
            summary = convert(
                src,
                dst,
                to=to,
                dtype=PRECISIONS[dtype] if dtype else None,
                ema=ema,
                only=only,
                max_shard_size=parse_size(max_shard_size, "--max-shard-size") if max_shard_size is not None else None,
                config=config,
                prediction_type=prediction_type,
                variant=variant,
                progress=watched(bar),
                placed=settle,  # the file is what was asked for: from here on a signal takes nothing back
            )
    for line in report(summary):
        click.echo(plain(line), err=True)


def report(summary: Summary) -> list[str]:
    """What was written and what was left out, for people."""
    layout = "LDM" if summary.layout == "ldm" else "diffusers"
    lines = [
        f"{summary.source} -> {summary.target} ({layout} layout)",
        f"{summary.kind}: {summary.parameters / 1e6:,.1f} M parameters in {summary.tensors} tensors, "
        f"{', '.join(summary.dtypes)}, {size_text(summary.bytes)}; read back and equal",
    ]
    if summary.predicts:
        lines.append(f"predicts {summary.prediction_type} ({summary.said_by})")
    if summary.dropped:
        groups = Counter(_group(name) for name in summary.dropped)
        lines.append("dropped: " + ", ".join(f"{n} x {shown(g)}" if n > 1 else shown(g) for g, n in groups.items()))
    return lines


def _group(name: str) -> str:
    """The start of a name by which many dropped tensors are told at once."""
    parts = name.split(".")
    if name.startswith("model_ema."):
        return "model_ema.*"
    return f"{'.'.join(parts[:2])}.*" if len(parts) > 3 else name
