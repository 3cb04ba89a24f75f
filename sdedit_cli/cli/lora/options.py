"""The options that the commands of `sdedit lora` share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ...errors import UsageError
from ...options.adapters import LORA_FILE, LoraFile
from ..file_commands import PATH
from ..flags import options
from ..folders import AdapterPath, here

if TYPE_CHECKING:
    import torch

    from ...adapters.lowrank import Keep

ADAPTER = AdapterPath("lora")
TO = click.option(
    "--to",
    type=click.Choice(["kohya", "diffusers", "peft"]),
    default="kohya",
    show_default=True,
    help="The names that the file is written in; 'peft' is a folder.",
)
DTYPE = click.option("--dtype", type=click.Choice(["fp16", "bf16", "fp32"]), help="Precision; by default as it was.")
MODEL = click.option(
    "-m", "--model", metavar="MODEL", help="The model that it is for, where that is none of the usual ones."
)
CONFIG = click.option(
    "--config", type=PATH, metavar="FOLDER", help="Model folder with the configs of a single-file checkpoint."
)
PARTIAL = click.option("--partial", is_flag=True, help="Leave out what fits no module of the model.")
AS_JSON = click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
VERBOSE = click.option("-v", "--verbose", is_flag=True, help="A row for each module, not each block.")


class _Share(click.FloatRange):
    """A number over 0, and 1 at most: not the NaN that no bound keeps out."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail(f"{value!r} is not in the range {self._describe_range()}.", param, ctx)
        return number


KEEP = options(
    click.option("--rank", type=click.IntRange(1), metavar="N", help="The rank of each module."),
    click.option(
        "--energy",
        type=_Share(0, 1, min_open=True),
        metavar="F",
        help="The smallest rank of each module that keeps this share of its change, such as 0.95.",
    ),
)


def keep_of(rank: int | None, energy: float | None) -> Keep:
    """What was asked for. Raises UsageError unless it is one of both."""
    if (rank is None) == (energy is None):
        raise UsageError("give one of --rank N and --energy F")
    from ...adapters.lowrank import Keep

    return Keep(rank, energy)


def lora_files(texts: Sequence[str]) -> list[LoraFile]:
    """The values of --lora, names among them found. Raises ModelError for one that is several files."""
    files = [LORA_FILE.parse(text) for text in texts]
    return [replace(file, path=str(here("lora", Path(file.path)))) for file in files]


def precision(dtype: str | None) -> torch.dtype | None:
    """The precision that a word stands for."""
    from ...weights.formats.precisions import PRECISIONS

    return PRECISIONS[dtype] if dtype else None


def check_name(target: Path, to: str) -> None:
    """Raises UsageError for a name that does not fit what is written."""
    is_file = target.suffix.lower() == ".safetensors"
    if to == "peft" and is_file:
        raise UsageError(f"{target}: an adapter of PEFT is a folder; leave .safetensors out")
    if to != "peft" and not is_file:
        raise UsageError(f"{target}: is written as safetensors; give it a name that ends in .safetensors")
