"""The options that the commands of `sdedit embed` share."""

from __future__ import annotations

from typing import Any

import click

from ..folders import AdapterPath

ADAPTER: Any = AdapterPath("embedding")
TO = click.option(
    "--to",
    type=click.Choice(["a1111", "diffusers", "kohya"]),
    help="Layout of the file.  [default: a1111 for .pt, diffusers for .safetensors and .bin]",
)
