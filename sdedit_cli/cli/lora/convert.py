"""`sdedit lora convert`: the same adapter under other names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ..file_commands import DEBUG, PATH
from ..flags import options
from ..render import plain
from .options import ADAPTER, DTYPE, MODEL, PARTIAL, check_name, precision


@click.command("convert", short_help="Write a LoRA under the names of other programs.")
@click.argument("src", type=ADAPTER)
@click.argument("dst", type=PATH)
@click.option(
    "--to",
    type=click.Choice(["kohya", "diffusers", "peft"]),
    required=True,
    help="The names that DST has; 'peft' is a folder.",
)
@options(DTYPE, MODEL, PARTIAL, DEBUG)
def convert(src: Path, dst: Path, to: Any, dtype: str | None, model: str | None, partial: bool) -> None:
    """Write the adapter SRC as DST, with every module's alpha, and what is known of its training.

    SRC is a file or a folder in any naming. Kohya's names hold every kind; diffusers' and PEFT's hold LoRA, with DoRA's
    magnitudes of the outputs, and other kinds are refused. A folder of PEFT for both components has one in each of
    DST/unet and DST/text_encoder. DST must not exist.
    """
    from .architectures import known_architecture
    from .files import begin, read, save

    check_name(dst, to)
    begin(src, target=dst)
    architecture = known_architecture(src, model)
    adapter = read(src, architecture, named=model is not None, partial=partial)
    for line in save(adapter, dst, to, precision(dtype), architecture):
        click.echo(plain(line), err=True)
