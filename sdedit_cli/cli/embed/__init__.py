"""`sdedit embed`: encode prompts; look at embeddings, convert and begin them."""

from __future__ import annotations

import click

from .convert import convert
from .encode import encode
from .init import init
from .inspect import inspect


@click.group("embed", short_help="Encode prompts; inspect, convert and make embeddings.")
def command() -> None:
    """Encode prompts to a file that --prompt-embeds takes; look at textual inversions, bring them to another layout,
    and begin new ones. Nothing in a file is executed.
    """


for one in (encode, inspect, convert, init):
    command.add_command(one)
