"""`sdedit embed`: encode prompts; look at embeddings, convert and begin them."""

from __future__ import annotations

import click

from .convert import convert
from .encode import encode
from .init import init
from .inspect import inspect


@click.group("embed", short_help="Encode prompts; inspect, convert and make embeddings.", invoke_without_command=True)
@click.pass_context
def command(ctx: click.Context) -> None:
    """Encode prompts to a file that --prompt-embeds takes; look at textual inversions, bring them to another layout,
    and begin new ones. Nothing in a file is executed.
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


for one in (encode, inspect, convert, init):
    command.add_command(one)
