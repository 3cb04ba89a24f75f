"""convert: a checkpoint of any kind -> a single file in LDM's layout, or a folder in diffusers layout.

Nothing appears under the target's name before every tensor was written, flushed, read back and found equal.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Literal

import torch

from ...disk.checks import refuse_existing
from ...errors import ModelError, UsageError, shown
from ..checkpoint import Checkpoint, open_checkpoint
from ..checkpoint.layouts import Slot
from ..formats.precisions import dtype_word
from ..load.check import check_complete
from .diffusers import SHARD_SIZE, Layout, component_file, folder_files
from .files import OutputFile, write_files
from .ldm import ldm_items, ldm_metadata
from .safetensors import Item, Progress

Target = Literal["diffusers", "ldm"]
SUFFIX = ".safetensors"


@dataclass(frozen=True)
class Summary:
    """What a conversion wrote and what it left out."""

    source: Path
    target: Path
    layout: Target
    kind: str
    prediction_type: str
    said_by: str
    predicts: bool
    dtypes: tuple[str, ...]
    tensors: int
    parameters: int
    bytes: int
    files: int
    dropped: tuple[str, ...]


def convert(
    source: Path | str,
    target: Path | str,
    *,
    to: Target | None = None,
    dtype: torch.dtype | None = None,
    ema: bool | None = None,
    only: Slot | None = None,
    max_shard_size: int | None = None,
    config: Path | None = None,
    prediction_type: str | None = None,
    variant: str | None = None,
    progress: Callable[[int], Progress] | None = None,
    placed: Callable[[], None] | None = None,
    change: Callable[[Checkpoint], Checkpoint] | None = None,
) -> Summary:
    """Write `source` as `target`: by default a single file if its name ends in .safetensors, else a folder.

    Args:
        source: A single file of any kind, or a folder in diffusers layout (PyTorch or Flax).
        target: Must not exist.
        to: The layout, where the name should not decide.
        dtype: None keeps each tensor's precision; integers are never cast.
        ema: True takes the averaged copy as the UNet, False drops it; None drops it only where the layout has no
            place for it. A copy that is the only UNet there is taken.
        only: Write this component alone.
        max_shard_size: Bytes; larger components of a folder are split over several files. None for 10 GB.
        config: A folder whose configs replace what shapes tell.
        prediction_type: What the UNet predicts, where the source does not say.
        variant: Of a folder's weights those of this variant, where a component has it.
        progress: Called with the number of bytes to come (written and compared), gives what is told about them.
        placed: Called when the target has its name, while signals still wait.
        change: What is made of the checkpoint, once it is known to be complete, before it is written.

    Raises:
        UsageError: The target's name contradicts the layout, or is a file's where it should be split.
        ModelError: The source cannot be used.
        OutputError: The target exists or cannot be written.
    """
    target = Path(target)
    layout = _layout(target, to, only)
    if max_shard_size is not None and _is_file(target):
        raise UsageError(
            f"{target}: is one file, and --max-shard-size is for folders; leave --max-shard-size out, or give a folder"
        )
    refuse_existing(target)
    checkpoint = open_checkpoint(source, config=config, prediction_type=prediction_type, ema=bool(ema), variant=variant)
    chosen = checkpoint.only(only)
    if ema is False and "unet" in chosen and checkpoint.uses_ema:
        raise UsageError(f"{checkpoint.path}: its UNet is there as an EMA copy only; leave --no-ema out")
    check_complete(checkpoint, only)
    checkpoint = change(checkpoint) if change else checkpoint
    files, dropped = _plan(checkpoint, target, layout, Layout(dtype, max_shard_size or SHARD_SIZE), ema, only)
    items = [item for file in files for item in file.items]
    _check_writable(items)
    total = sum(item.nbytes for item in items)
    write_files(target, files, progress(2 * total) if progress else None, placed=placed)
    return Summary(
        source=checkpoint.path,
        target=target,
        layout=layout,
        kind=checkpoint.title(only),
        prediction_type=checkpoint.prediction.kind,
        said_by=checkpoint.prediction.said_by,
        predicts="unet" in chosen,
        dtypes=tuple(sorted({dtype_word(i.dtype) for i in items})),
        tensors=len(items),
        parameters=sum(prod(i.shape) for i in items),
        bytes=total,
        files=len(files),
        dropped=dropped,
    )


def _check_writable(items: Sequence[Item]) -> None:
    unfit = next((i for i in items if not i.is_writable), None)
    if unfit is not None:
        kind = str(unfit.dtype).removeprefix("torch.")
        advice = "give a --dtype" if unfit.dtype.is_floating_point else "give a model of ordinary numbers"
        raise ModelError(
            f"{unfit.source.path}: '{shown(unfit.key)}' ({kind}) is nothing that a {SUFFIX} file can hold; {advice}"
        )


def _is_file(target: Path) -> bool:
    return target.suffix.lower() == SUFFIX


_PICKLES = (".ckpt", ".pt", ".pth", ".bin")
# Endings that nobody gives a folder: the name was meant for something else, or has a slip.
_OTHERS = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".avif", ".json", ".txt", ".zip", ".gguf", ".onnx", ".safetensor")


def _layout(target: Path, to: Target | None, only: Slot | None) -> Target:
    is_file = _is_file(target)
    if target.suffix.lower() in _OTHERS:
        raise UsageError(f"{target}: a model is a {SUFFIX} file or a folder; give that ending or none")
    if target.suffix.lower() in _PICKLES:
        raise UsageError(f"{target}: only {SUFFIX} files are written, never pickles; give the name that ending")
    if to == "ldm" and not is_file:
        raise UsageError(f"{target}: LDM's layout is a single file; give it a name that ends in {SUFFIX}")
    if to == "diffusers" and is_file and only is None:
        raise UsageError(f"{target}: the diffusers layout of a whole model is a folder; leave {SUFFIX} out")
    return to or ("ldm" if is_file else "diffusers")


def _plan(
    checkpoint: Checkpoint, target: Path, layout: Target, folder: Layout, ema: bool | None, only: Slot | None
) -> tuple[list[OutputFile], tuple[str, ...]]:
    if layout == "ldm":
        items, dropped = ldm_items(checkpoint, folder.dtype, ema, only)
        return [OutputFile("", items, ldm_metadata(checkpoint, items))], dropped
    if only is not None and _is_file(target):
        files = [component_file(checkpoint, only, folder.dtype)]
    else:
        files = folder_files(checkpoint, folder, only)
    if checkpoint.source is None:
        return files, checkpoint.dropped
    used = set[str]().union(*(part.tensors.source_names() for part in checkpoint.only(only).values()))
    return files, tuple(name for name in checkpoint.source.names() if name not in used)
