"""`sdedit lora resize`: the same adapter in another rank."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ...options.adapters import LoraFile
from ..file_commands import DEBUG, PATH
from ..flags import options
from .options import ADAPTER, AS_JSON, DTYPE, KEEP, MODEL, PARTIAL, TO, VERBOSE, check_name, keep_of, precision


@click.command("resize", short_help="Bring a LoRA to another rank.")
@click.argument("src", type=ADAPTER)
@click.argument("dst", type=PATH)
@options(KEEP, TO, DTYPE, MODEL, PARTIAL, AS_JSON, VERBOSE, DEBUG)
def resize(
    src: Path,
    dst: Path,
    rank: int | None,
    energy: float | None,
    to: Any,
    dtype: str | None,
    model: str | None,
    partial: bool,
    as_json: bool,
    verbose: bool,
) -> None:
    """Write the adapter SRC as DST in the rank N, or in the smallest one of each module that keeps the energy F.

    Each module is the nearest of its rank, by its singular values; how far that is, is told. LoHa, LoKr and other kinds
    that need no model become LoRA. DST must not exist.
    """
    from .architectures import known_architecture
    from .files import active, begin
    from .reduce import combine_and_save

    keep = keep_of(rank, energy)
    check_name(dst, to)
    begin(src, target=dst)
    architecture = known_architecture(src, model)
    wanted = active([LoraFile(str(src))], architecture, named=model is not None, partial=partial)
    combine_and_save(wanted, keep, architecture, dst, to, precision(dtype), as_json=as_json, verbose=verbose)
