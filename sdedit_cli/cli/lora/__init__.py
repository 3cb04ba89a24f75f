"""`sdedit lora`: look at LoRA files, merge, convert, extract and resize them."""

from __future__ import annotations

import click

from .convert import convert
from .extract import extract
from .inspect import inspect
from .merge import merge
from .resize import resize


@click.group(
    "lora", short_help="Inspect, merge, convert, extract and resize LoRA adapters.", invoke_without_command=True
)
@click.pass_context
def command(ctx: click.Context) -> None:
    """Look at LoRA files and their relatives, merge them, and bring them to other names and ranks.

    Only 'merge' into a checkpoint and 'extract' need a model: what modules Stable Diffusion 1.x and 2.x have is known,
    and for which of them a file is, its shapes tell. Nothing in a file is executed.
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


for one in (inspect, merge, convert, extract, resize):
    command.add_command(one)
